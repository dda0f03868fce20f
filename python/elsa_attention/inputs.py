"""The arguments of `attention` as the core takes them: float32 views of rank 4.

The words and shapes are those of torch's scaled_dot_product_attention.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elsa_attention import _core
from elsa_attention._tensors import (
    Tensor,
    float_array,
    mask_array,
    require_one_kind,
    result_like,
    without_gradient,
)
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


def call_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    lengths: Sequence[int] | Tensor | None,
) -> Inputs:
    """`prepare` for tensors as a user gives them: all of one kind."""
    require_one_kind(query=query, key=key, value=value, attn_mask=attn_mask)
    return prepare(query, key, value, attn_mask, is_causal, scale, enable_gqa, lengths)


def write_result(
    inputs: Inputs,
    tensors: tuple[Tensor, Tensor, Tensor, Tensor | None],
    write: Callable[[np.ndarray], object],
) -> Tensor:
    """What write(out) puts into `out` [batch, heads, n_q, d_v], like the query; no gradient.

    `tensors` are query, key, value and mask that `inputs` were made from.
    """
    query, _, value, _ = tensors

    def compute() -> Tensor:
        out = np.empty((*inputs.query.shape[:3], inputs.value.shape[3]), np.float32)
        write(out)
        return result_like(out.reshape(*query.shape[:-1], value.shape[-1]), query)

    return without_gradient(compute, *tensors)


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
    check_shapes(query, key, value, attn_mask, is_causal, enable_gqa)
    q, k, v = (_rank4(float_array(n, x)) for n, x in _named(query, key, value))
    pairs = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    inputs = Inputs(q, k, v, _scale(scale, q.shape[3]), bool(is_causal))
    if attn_mask is not None:
        mask = pair_mask(query, key, attn_mask).reshape(pairs)
        if mask.dtype == np.bool_:
            inputs.mask = mask
        else:
            inputs.bias = mask
    if lengths is not None:
        inputs.key_lengths = checked_lengths(lengths, q.shape[0])
        if q.shape[2] == k.shape[2]:
            inputs.query_lengths = inputs.key_lengths
    return inputs


def check_shapes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
) -> None:
    """Refuses ranks, batch dimensions and heads that do not fit; the core checks the rest."""
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


def pair_mask(query: Tensor, key: Tensor, attn_mask: Tensor) -> np.ndarray:
    """attn_mask as bool or float32 over every (query, key) pair, without a copy."""
    spread = (*query.shape[:-1], key.shape[-2])
    return broadcast("attn_mask", mask_array("attn_mask", attn_mask), spread)


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


def attend_without_padding(
    inputs: Inputs, out: np.ndarray, attend: Callable[[Inputs, np.ndarray], Any]
) -> Any:
    """attend(inputs, out) on real tokens only, wherever the padding is; its rows become 0.

    For executions that take padding at the end and no other (the accelerator's host gathers rows).
    Only for calls whose queries and keys are the same tokens, as `skip_padding`.
    """
    mask = inputs.mask
    if mask is None or mask.shape[2] != mask.shape[3]:
        return attend(inputs, out)
    visible = mask.any(axis=(1, 2))  # [batch, n]
    if visible.all():
        return attend(inputs, out)
    order = np.argsort(~visible, axis=1, kind="stable")  # real tokens first
    rows = order[:, None, :, None]

    def gather(x: np.ndarray, *indices: tuple[np.ndarray, int]) -> np.ndarray:
        for index, axis in indices:
            x = np.take_along_axis(x, index, axis)
        return x

    def gather_pairs(x: np.ndarray) -> np.ndarray:
        heads = x.shape[1]
        x = x[:, :1] if x.strides[1] == 0 else x
        x = gather(x, (rows, 2), (order[:, None, None, :], 3))
        return np.broadcast_to(x, (x.shape[0], heads, *x.shape[2:]))

    lengths = visible.sum(axis=1).tolist()
    packed = replace(
        inputs,
        query=gather(inputs.query, (rows, 2)),
        key=gather(inputs.key, (rows, 2)),
        value=gather(inputs.value, (rows, 2)),
        mask=None if _same_rows(mask) else gather_pairs(mask),
        bias=None if inputs.bias is None else gather_pairs(inputs.bias),
        query_lengths=lengths,
        key_lengths=lengths,
    )
    result = np.empty(out.shape, np.float32)
    returned = attend(packed, result)
    np.put_along_axis(out, rows, result, axis=2)
    return returned


def _named(query: Tensor, key: Tensor, value: Tensor) -> tuple[tuple[str, Tensor], ...]:
    return (("query", query), ("key", key), ("value", value))


def _rank4(x: np.ndarray) -> np.ndarray:
    if x.ndim < 4:
        return x[(None,) * (4 - x.ndim)]
    return x if x.ndim == 4 else x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])


def broadcast(name: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
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


def checked_lengths(
    lengths: Sequence[int] | Tensor, batch: int, name: str = "lengths"
) -> list[int]:
    """`lengths` as a list of `batch` integers of 0 or more."""
    values = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    if not isinstance(values, Sequence) or len(values) != batch:
        got = len(values) if isinstance(values, Sequence) else f"{values!r}"
        raise ValueError(f"{name}: expected {batch} values, one per batch entry, got {got}")
    return [integer(name, value, 0) for value in values]


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


def thread_count(threads: int | None) -> int:
    """The core's number of threads; its 0 is one per processor."""
    return 0 if threads is None else integer("threads", threads, 1)


def _same_rows(mask: np.ndarray) -> bool:
    """Whether all heads and queries see the same keys."""
    if mask.strides[1] == 0 and mask.strides[2] == 0:
        return True
    return bool((mask == mask[:, :1, :1]).all())
