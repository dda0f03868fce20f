"""The arguments of `attention` as the core takes them: float32 views of rank 4.

The words and shapes are those of torch's scaled_dot_product_attention.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elsa_attention import _core
from elsa_attention._tensors import Tensor, float_array, mask_array
from elsa_attention.plan import Plan
from elsa_attention.stats import HeadStats


@dataclass
class Inputs:
    """What the core computes attention from: float32 views of rank 4, never copies of float32."""

    query: np.ndarray  # [batch, heads, n_q, d]
    key: np.ndarray  # [batch, kv_heads, n_k, d]
    value: np.ndarray  # [batch, kv_heads, n_k, d_v]
    scale: float
    causal: bool = False
    mask: np.ndarray | None = None  # bool [batch, heads, n_q, n_k], True = visible
    bias: np.ndarray | None = None  # float32 [batch, heads, n_q, n_k], added to the scores
    query_lengths: Sequence[int] = ()  # [batch], or empty: nothing is padded
    key_lengths: Sequence[int] = ()

    def arguments(self) -> tuple:
        """The arguments that every function of the core takes first."""
        return (
            self.query,
            self.key,
            self.value,
            self.mask,
            self.bias,
            self.query_lengths,
            self.key_lengths,
            self.scale,
            self.causal,
        )

    def attend(
        self,
        plan: Plan | None,
        layer: int,
        out: np.ndarray,
        threads: int,
        measure_mass: bool = False,
        random_keys_seed: int | None = None,
    ) -> list[HeadStats]:
        """Writes attention into `out` [batch, heads, n_q, d_v]; returns the counts per head."""
        native = None if plan is None else plan.native
        rows = _core.attention(
            *self.arguments(), native, layer, out, threads, measure_mass, random_keys_seed
        )
        return [HeadStats(*row[:-1], row[-1] if measure_mass else None) for row in rows]


def prepare(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    lengths: Sequence[int] | Tensor | None = None,
) -> Inputs:
    """Turns the arguments of `attention` into views of rank 4. Errors: those of `attention`."""
    ranks = (query.ndim, key.ndim, value.ndim)
    if len(set(ranks)) > 1 or ranks[0] < 2:
        raise ValueError(
            "attention: expected query, key and value of one rank, 2 or more, got ranks "
            f"{ranks[0]}, {ranks[1]} and {ranks[2]}"
        )
    if is_causal and attn_mask is not None:
        raise ValueError("attention: expected attn_mask or is_causal, got both")
    for name, x in (("key", key), ("value", value)):
        if tuple(x.shape[:-3]) != tuple(query.shape[:-3]):
            raise ValueError(
                f"{name}: expected batch dimensions {list(query.shape[:-3])} as in query, got "
                f"{list(x.shape[:-3])}"
            )
    heads, kv_heads = (x.shape[-3] if x.ndim > 2 else 1 for x in (query, key))
    if heads != kv_heads and not enable_gqa:
        raise ValueError(
            f"key: expected {heads} heads as in query, got {kv_heads} (enable_gqa=True allows "
            "fewer)"
        )
    q, k, v = (_rank4(float_array(n, x)) for n, x in _named(query, key, value))
    pairs = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    inputs = Inputs(q, k, v, _scale(scale, q.shape[3]), bool(is_causal))
    if attn_mask is not None:
        spread = (*query.shape[:-1], key.shape[-2])
        mask = _broadcast("attn_mask", mask_array("attn_mask", attn_mask), spread).reshape(pairs)
        if mask.dtype == np.bool_:
            inputs.mask = mask
        else:
            inputs.bias = mask
    if lengths is not None:
        inputs.key_lengths = _lengths(lengths, q.shape[0])
        if q.shape[2] == k.shape[2]:
            inputs.query_lengths = inputs.key_lengths
    return inputs


def skip_padding(inputs: Inputs) -> int:
    """Marks tokens that no query may see as padding of self-attention: their own rows become 0.

    Only for calls whose queries and keys are the same tokens. Returns the number of padded queries
    that the core will still count as empty ones.
    """
    mask = inputs.mask
    if mask is None or mask.shape[2] != mask.shape[3]:
        return 0
    visible = mask.any(axis=(1, 2))  # [batch, n]
    lengths = visible.sum(axis=1)
    prefix = np.arange(visible.shape[1]) < lengths[:, None]
    if (visible == prefix).all() and _same_rows(mask):
        inputs.mask = None  # right padding and nothing else: lengths say the same
        inputs.query_lengths = inputs.key_lengths = lengths.tolist()
        return 0
    if visible.all():
        return 0
    inputs.mask = mask & visible[:, None, :, None]
    return int((~visible).sum())


def _named(query: Tensor, key: Tensor, value: Tensor) -> tuple[tuple[str, Tensor], ...]:
    return (("query", query), ("key", key), ("value", value))


def _rank4(x: np.ndarray) -> np.ndarray:
    if x.ndim < 4:
        return x[(None,) * (4 - x.ndim)]
    return x if x.ndim == 4 else x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])


def _broadcast(name: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """x with strides of 0 where it repeats: no copy."""
    try:
        return np.broadcast_to(x, shape)
    except ValueError:
        raise ValueError(
            f"{name}: expected a shape that broadcasts to {list(shape)}, got {list(x.shape)}"
        ) from None


def _scale(scale: float | None, d: int) -> float:
    if scale is not None:
        return float(scale)
    return d**-0.5 if d else 1.0  # d = 0 is refused by the core


def _lengths(lengths: Sequence[int] | Tensor, batch: int) -> list[int]:
    values = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    if not isinstance(values, Sequence) or len(values) != batch:
        got = len(values) if isinstance(values, Sequence) else f"{values!r}"
        raise ValueError(f"lengths: expected {batch} values, one per batch entry, got {got}")
    return [integer("lengths", value, 0) for value in values]


def integer(name: str, value: object, low: int, high: int = 2**31 - 1) -> int:
    """`value` as an int. Errors: TypeError or ValueError naming the argument."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if number < low:
        raise ValueError(f"{name}: expected {low} or more, got {number}")
    if number > high:
        raise ValueError(f"{name}: expected at most {high}, got {number}")
    return number


def _same_rows(mask: np.ndarray) -> bool:
    """Whether all heads and queries see the same keys."""
    if mask.strides[1] == 0 and mask.strides[2] == 0:
        return True
    return bool((mask == mask[:, :1, :1]).all())
