"""The CPU engine (elsa/cpu) on numpy arrays and torch tensors.

A call on a short sequence takes microseconds, so the plain case goes straight to the core, which
reads tensors of 32 and 16 bits where they are. The core answers NotImplemented to whatever it
cannot read in place; only then are tensors converted here, or refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elsa_attention import _core
from elsa_attention._tensors import (
    Tensor,
    is_torch,
    plain_tensor,
    require_one_kind,
    without_gradient,
)
from elsa_attention.inputs import (
    Inputs,
    check_shapes,
    checked_lengths,
    integer,
    pair_mask,
    thread_count,
)
from elsa_attention.plan import Plan
from elsa_attention.stats import CallStats, HeadStats


@dataclass(frozen=True)
class CpuTarget:
    """An instruction set that the engine has kernels for."""

    name: str  # as the environment variable ELSA_TARGET takes it
    runs: bool  # on this processor, with this build
    compiled_for: str  # what the compiler was told; "" if this build has no such kernels
    selected: bool  # the one in use


def cpu_targets() -> list[CpuTarget]:
    """The instruction sets of the engine cpu, plainest first.

    The most capable one that runs here is selected, or what ELSA_TARGET names; it is read once.
    Errors: ValueError or RuntimeError if ELSA_TARGET names none, or one that does not run here.
    """
    selected = _core.cpu_selected_target()
    return [
        CpuTarget(name, runs, words.strip(), name == selected)
        for name, runs, words in _core.cpu_targets()
    ]


def cpu_name() -> str:
    """The processor's own name; "unknown" where it does not say."""
    return _core.cpu_processor()


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    plan: Plan | None,
    layer: int,
    lengths: Sequence[int] | Tensor | None,
    threads: int | None,
    precision: str,
    select: str,
    return_stats: bool,
    return_log_sum_exp: bool,
) -> Any:
    """`elsa_attention.attention` with engine="cpu"; its words, results and errors."""
    require_words(precision, select)
    if is_causal and attn_mask is not None:
        raise ValueError("attention: expected attn_mask or is_causal, got both")
    native = None if plan is None else plan.native
    layer = integer("layer", layer, -(2**31))
    scale = None if scale is None else float(scale)
    options = (thread_count(threads), precision, select)

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, lengths: Any
    ) -> tuple[Any, Tensor, Tensor | None]:
        out = _empty_like(q, q.shape[:-1] + v.shape[-1:])
        sums = _empty_like(q, q.shape[:-1], True) if return_log_sum_exp else None
        spans = () if lengths is None else lengths
        rows = spans if q.shape[-2] == k.shape[-2] else ()
        report = _core.cpu_attention(
            q, k, v, mask, None, rows, spans, scale, bool(is_causal), bool(enable_gqa),
            native, layer, out, sums, *options, return_stats,
        )  # fmt: skip
        return report, out, sums

    report: Any = NotImplemented
    if lengths is None and _plain(query, key, value, attn_mask):
        report, out, sums = run(query, key, value, attn_mask, None)
    if report is NotImplemented:

        def convert() -> Tensor:
            nonlocal report, sums
            arguments = _converted(query, key, value, attn_mask, is_causal, enable_gqa, lengths)
            report, out, sums = run(*arguments)
            if report is NotImplemented:
                raise TypeError("attention: expected tensors that can be read in place")
            if sums is not None:
                sums = sums.reshape(query.shape[:-1])
            out = out.reshape(query.shape[:-1] + value.shape[-1:])
            return out.to(query.dtype) if is_torch(query) else out.astype(query.dtype, copy=False)

        sums = None
        require_one_kind(query=query, key=key, value=value, attn_mask=attn_mask)
        out = without_gradient(convert, query, key, value, attn_mask)
    if not return_stats and not return_log_sum_exp:
        return out
    extras = ([sums] if return_log_sum_exp else []) + ([stats_of(report)] if return_stats else [])
    return (out, *extras)


def attend(
    inputs: Inputs, plan: Plan | None, layer: int, out: Tensor, options: tuple[int, str, str]
) -> CallStats:
    """Writes attention into `out` [batch, heads, n_q, d_v]; options: threads, precision, select."""
    report = _core.cpu_attention(
        inputs.query, inputs.key, inputs.value, inputs.mask, inputs.bias,
        inputs.query_lengths, inputs.key_lengths, inputs.scale, inputs.causal, True,
        None if plan is None else plan.native, layer, out, None, *options, True,
    )  # fmt: skip
    if report is NotImplemented:
        raise TypeError("attention: expected tensors that can be read in place")
    return stats_of(report)


def require_words(precision: object, select: object) -> None:
    """Refuses options that are no words; the core knows which words there are."""
    for name, word in (("precision", precision), ("select", select)):
        if not isinstance(word, str):
            raise TypeError(f"{name}: expected a word, got {word!r}")


def stats_of(report: tuple) -> CallStats:
    """The core's report of a call."""
    target, precision, rows = report
    stats = CallStats(HeadStats(*counts[:-1], None, paths) for counts, paths in rows)
    stats.target, stats.precision = target, precision
    return stats


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether the core may read the tensors themselves: of one kind, and no gradient is asked."""
    if isinstance(query, np.ndarray):
        return (
            isinstance(key, np.ndarray)
            and isinstance(value, np.ndarray)
            and (mask is None or isinstance(mask, np.ndarray))
        )
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    graded = torch.is_grad_enabled()
    for x in (query, key, value) if mask is None else (query, key, value, mask):
        if not isinstance(x, torch.Tensor) or (graded and x.requires_grad) or x.is_neg():
            return False
    return True


def _empty_like(x: Tensor, shape: tuple[int, ...], float32: bool = False) -> Tensor:
    if isinstance(x, np.ndarray):
        return np.empty(shape, np.float32 if float32 else x.dtype)
    import torch

    return torch.empty(shape, dtype=torch.float32 if float32 else x.dtype)


def _converted(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
    lengths: Sequence[int] | Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, np.ndarray | None, list[int] | None]:
    """The arguments as the core reads them, of rank 4. Errors: those of `attention`."""
    check_shapes(query, key, value, attn_mask, is_causal, enable_gqa)
    mask = None if attn_mask is None else pair_mask(query, key, attn_mask)
    q, k, v = (
        _rank4(plain_tensor(name, x))
        for name, x in (("query", query), ("key", key), ("value", value))
    )
    if mask is not None:
        mask = mask.reshape(*q.shape[:3], k.shape[2])
    spans = None if lengths is None else checked_lengths(lengths, q.shape[0])
    return q, k, v, mask, spans


def _rank4(x: Tensor) -> Tensor:
    if x.ndim < 4:
        return x[(None,) * (4 - x.ndim)]
    return x if x.ndim == 4 else x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
