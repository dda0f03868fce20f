"""ea.attention: the words and shapes of torch's scaled_dot_product_attention.

Source: Sec. II-A (exact), Sec. III (with a plan). The arithmetic is in C++ (elsa/reference).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from elsa_attention.stats import HeadStats

if TYPE_CHECKING:
    from elsa_attention.plan import Plan

ENGINES = ("reference",)


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


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    plan: Plan | None = None,
    layer: int = 0,
    lengths: Sequence[int] | Tensor | None = None,
    threads: int | None = None,
    engine: str = "reference",
    return_stats: bool = False,
    measure_mass: bool = False,
    random_keys_seed: int | None = None,
) -> Tensor | tuple[Tensor, list[HeadStats]]:
    """Attention of queries over keys: exact without a plan, ELSA with one.

    Tensors are numpy arrays or torch CPU tensors, all of one kind; the result is of the same kind
    and of query's dtype. float32 is read in place, whatever its strides. float16, bfloat16 and
    float64 are rounded to float32 first (so float64 gains no precision) and the result is cast
    back. There is no gradient: backward() raises.

    Shapes:
        query: [..., H, n_q, d], key: [..., H_kv, n_k, d], value: [..., H_kv, n_k, d_v]; the result
        is [..., H, n_q, d_v]. Leading dimensions are batch dimensions; of rank 3, [H, n, d], and
        of rank 2, [n, d], are one batch. n = 0 is allowed.

    Args:
        attn_mask: broadcastable to [..., H, n_q, n_k]. bool: True = visible. Floating: added to
            the scores; -infinity, or the lowest finite value of its dtype, masks.
        is_causal: query i sees keys 0 to i; not together with attn_mask.
        scale: of the scores; 1/sqrt(d) by default.
        enable_gqa: H may be a multiple of H_kv.
        plan: what `calibrate` learned; `layer` says which of its layers this is.
        lengths: [batch] numbers of real tokens; the rest of each sequence is padding. They limit
            the keys, and if n_q == n_k the queries too.
        threads: 1 or more; by default one per processor. Never changes the result.
        engine: which execution computes; see ENGINES.
        return_stats: return (result, one HeadStats per head, summed over the batch).
        measure_mass: also measure the softmax mass of the kept keys (costs exact scores).
        random_keys_seed: the control: keep as many keys as the plan would, drawn at random.

    Rows of padded queries, and of queries that see no key, are 0.

    Raises:
        TypeError: a tensor of another kind or dtype.
        ValueError: shapes that do not fit, a device other than the CPU, a plan of another shape.
    """
    require_one_kind(query=query, key=key, value=value, attn_mask=attn_mask)
    require_engine(engine)
    require_plan(plan)
    inputs = prepare(query, key, value, attn_mask, is_causal, scale, enable_gqa, lengths)
    stats: list[HeadStats] = []

    def compute() -> Tensor:
        batch, heads, n_q, _ = inputs.query.shape
        out = np.empty((batch, heads, n_q, inputs.value.shape[3]), np.float32)
        stats.extend(
            inputs.attend(
                plan,
                operator.index(layer),
                out,
                thread_count(threads),
                measure_mass,
                random_keys_seed,
            )
        )
        return result_like(out.reshape(*query.shape[:-1], value.shape[-1]), query)

    result = without_gradient(compute, query, key, value, attn_mask)
    return (result, stats) if return_stats else result


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


def require_engine(engine: str) -> None:
    """Refuses an engine that this build does not have."""
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")


def require_plan(plan: object) -> None:
    """Refuses what is neither a Plan nor None."""
    from elsa_attention.plan import Plan

    if plan is not None and not isinstance(plan, Plan):
        raise TypeError(f"plan: expected an elsa_attention.Plan, got {type(plan).__name__}")


def thread_count(threads: int | None) -> int:
    """The core's number of threads; its 0 is one per processor."""
    if threads is None:
        return 0
    if operator.index(threads) < 1:
        raise ValueError(f"threads: expected 1 or more, got {threads}")
    return operator.index(threads)


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
    values = lengths.tolist() if hasattr(lengths, "tolist") else list(lengths)
    if not isinstance(values, list) or len(values) != batch:
        got = len(values) if isinstance(values, list) else "a single number"
        raise ValueError(f"lengths: expected {batch} values, one per batch entry, got {got}")
    return [operator.index(value) for value in values]
