"""ea.attention: the words and shapes of torch's scaled_dot_product_attention.

Source: Sec. II-A (exact), Sec. III (with a plan). The arithmetic is in C++ (elsa/reference).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elsa_attention._tensors import Tensor, require_one_kind, result_like, without_gradient
from elsa_attention.inputs import integer, prepare
from elsa_attention.plan import Plan
from elsa_attention.stats import HeadStats

ENGINES = ("reference",)


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
    seed = random_seed(random_keys_seed)
    stats: list[HeadStats] = []

    def compute() -> Tensor:
        batch, heads, n_q, _ = inputs.query.shape
        out = np.empty((batch, heads, n_q, inputs.value.shape[3]), np.float32)
        stats.extend(
            inputs.attend(
                plan,
                integer("layer", layer, -(2**31)),
                out,
                thread_count(threads),
                measure_mass,
                seed,
            )
        )
        return result_like(out.reshape(*query.shape[:-1], value.shape[-1]), query)

    result = without_gradient(compute, query, key, value, attn_mask)
    return (result, stats) if return_stats else result


def require_engine(engine: str) -> None:
    """Refuses an engine that this build does not have."""
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")


def require_plan(plan: object) -> None:
    """Refuses what is neither a Plan nor None."""
    if plan is not None and not isinstance(plan, Plan):
        raise TypeError(f"plan: expected an elsa_attention.Plan, got {type(plan).__name__}")


def random_seed(seed: int | None) -> int | None:
    """The seed of the random-keys control, checked."""
    return None if seed is None else integer("random_keys_seed", seed, 0, 2**64 - 1)


def thread_count(threads: int | None) -> int:
    """The core's number of threads; its 0 is one per processor."""
    if threads is None:
        return 0
    return integer("threads", threads, 1)
