"""ea.attention: the words and shapes of torch's scaled_dot_product_attention.

Source: Sec. II-A (exact), Sec. III (with a plan), Sec. IV (on the accelerator). The arithmetic is
in C++ (elsa/reference, elsa/fixed, elsa/sim).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elsa_attention import cpu
from elsa_attention._tensors import Tensor
from elsa_attention.accelerator import Accelerator
from elsa_attention.engines import ENGINES, Engine, refuse_options
from elsa_attention.inputs import call_inputs, integer, write_result
from elsa_attention.plan import Plan, require_plan
from elsa_attention.stats import HeadStats

__all__ = ["ENGINES", "attention"]


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
    accelerator: Accelerator | None = None,
    precision: str = "auto",
    select: str = "auto",
    return_stats: bool = False,
    return_log_sum_exp: bool = False,
    measure_mass: bool = False,
    random_keys_seed: int | None = None,
) -> Tensor | tuple[Any, ...]:
    """Attention of queries over keys: exact without a plan, ELSA with one.

    Tensors are numpy arrays or torch CPU tensors, all of one kind; the result is of the same kind
    and of query's dtype. float32 is read in place, whatever its strides. float16, bfloat16 and
    float64 are rounded to float32 first (so float64 gains no precision) and the result is cast
    back; the engine "cpu" reads float16 and bfloat16 in place too, and copies only tensors whose
    last dimension has gaps. There is no gradient: backward() raises.

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
        engine: which execution computes: "reference" in floating point as the paper reads, "cpu"
            the same keys as fast as this processor can, "fixed" with the values of the accelerator
            bit by bit, "sim" the same with candidates in the order of its clock
            (`Accelerator.attention` also returns the cycles).
        accelerator: the machine of "fixed" and "sim"; by default the paper's.
        precision: of "cpu": "float32", "16bit" (K, V and weights) or "int8" (also scores from 8
            bits, where the processor multiplies them).
            "auto" is float32 for float32 tensors and 16bit for 16-bit ones. Never changes which
            keys are kept.
        select: of "cpu": "auto" computes a head exactly where that is as fast as its selection,
            "always" never does.
        return_stats: return (result, one HeadStats per head, summed over the batch).
        return_log_sum_exp: of "cpu": return the logarithm of the softmax's denominator,
            float32 [..., H, n_q], after the result and before the statistics; -infinity where a
            row sees nothing.
        measure_mass: also measure the softmax mass of the kept keys (costs exact scores).
        random_keys_seed: the control: keep as many keys as the plan would, drawn at random.

    Rows of padded queries, and of queries that see no key, are 0.

    Raises:
        TypeError: a tensor of another kind or dtype.
        ValueError: shapes that do not fit, a device other than the CPU, a plan of another shape,
            an option that the engine has not.
        RuntimeError: what the accelerator cannot do.
    """
    require_plan(plan)
    if engine == "cpu":
        if accelerator is not None or measure_mass or random_keys_seed is not None:
            refuse_options(engine, accelerator, measure_mass, random_keys_seed)
        return cpu.attention(
            query, key, value, attn_mask, is_causal, scale, enable_gqa, plan, layer, lengths,
            threads, precision, select, return_stats, return_log_sum_exp,
        )  # fmt: skip
    if return_log_sum_exp:
        raise ValueError(f"return_log_sum_exp: expected engine cpu, got {engine}")
    chosen = Engine.make(
        engine, accelerator, threads, measure_mass, random_keys_seed, precision, select
    )
    tensors = (query, key, value, attn_mask)
    inputs = call_inputs(*tensors, is_causal, scale, enable_gqa, lengths)
    number = integer("layer", layer, -(2**31))
    stats: list[HeadStats] = []
    result = write_result(
        inputs, tensors, lambda out: stats.extend(chosen.attend(inputs, plan, number, out).stats)
    )
    return (result, stats) if return_stats else result
