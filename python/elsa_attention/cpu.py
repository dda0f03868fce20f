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
    if is_causal and attn_mask is not None:
        raise ValueError("attention: expected attn_mask or is_causal, got both")
    require_words(precision, select)
    call = (
        None if scale is None else float(scale), bool(is_causal), bool(enable_gqa),
        None if plan is None else plan.native,
        layer if type(layer) is int and abs(layer) < 2**31 else integer("layer", layer, -(2**31)),
    )  # fmt: skip
    options = (thread_count(threads), precision, select, return_stats)
    report: Any = NotImplemented
    sums = None
    if lengths is None and _plain(query, key, value, attn_mask):
        out = result_for(query, value.shape[-1] if value.ndim else 0)
        if return_log_sum_exp:
            sums = empty(query, query.shape[:-1], float32=True)
        report = _core.cpu_attention(
            query, key, value, attn_mask, None, (), (), *call, out, sums, *options
        )  # fmt: skip
    if report is NotImplemented:

        def convert() -> Tensor:
            nonlocal report, sums
            check_shapes(query, key, value, attn_mask, is_causal, enable_gqa)
            q, k, v, mask = _converted(query, key, value, attn_mask)
            spans = () if lengths is None else checked_lengths(lengths, q.shape[0])
            own_spans = spans if q.shape[2] == k.shape[2] else ()
            out = empty(q, (*q.shape[:3], v.shape[3]))
            sums = empty(q, q.shape[:3], float32=True) if return_log_sum_exp else None
            report = _core.cpu_attention(
                q, k, v, mask, None, own_spans, spans, *call, out, sums, *options
            )  # fmt: skip
            require_read(report)
            sums = None if sums is None else sums.reshape(query.shape[:-1])
            out = out.reshape(query.shape[:-1] + value.shape[-1:])
            return as_dtype(out, query.dtype)

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
    require_read(report)
    return stats_of(report)


def require_read(report: object) -> None:
    """Refuses tensors that the core could not read although they were converted."""
    if report is NotImplemented:
        raise TypeError("attention: expected plain tensors, got some whose memory cannot be read")


def require_words(precision: object, select: object) -> None:
    """Refuses options that are no words; the core knows which words there are."""
    if isinstance(precision, str) and isinstance(select, str):
        return
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


def result_for(query: Tensor, d_v: int) -> Tensor:
    """Memory for a result like `query` with rows of d_v."""
    if isinstance(query, np.ndarray):
        return np.empty((*query.shape[:-1], d_v), query.dtype)
    shape = query.shape
    if shape and shape[-1] == d_v:  # faster, and has the layout of query as in torch
        return sys.modules["torch"].empty_like(query)
    return empty(query, (*shape[:-1], d_v))


def empty(x: Tensor, shape: tuple[int, ...], float32: bool = False) -> Tensor:
    """A new tensor of the kind and dtype of x, or float32."""
    if isinstance(x, np.ndarray):
        return np.empty(shape, np.float32 if float32 else x.dtype)
    import torch

    return torch.empty(shape, dtype=torch.float32 if float32 else x.dtype)


def as_dtype(x: Tensor, dtype: Any) -> Tensor:
    """x in a dtype of its own kind; x itself if it is so already."""
    return x.astype(dtype, copy=False) if isinstance(x, np.ndarray) else x.to(dtype)


def _converted(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, np.ndarray | None]:
    """Tensors of fitting shapes as the core reads them, of rank 4."""
    mask = None if attn_mask is None else pair_mask(query, key, attn_mask)
    q, k, v = (
        _rank4(plain_tensor(name, x))
        for name, x in (("query", query), ("key", key), ("value", value))
    )
    if mask is not None:
        mask = mask.reshape(*q.shape[:3], k.shape[2])
    return q, k, v, mask


def _rank4(x: Tensor) -> Tensor:
    if x.ndim < 4:
        return x[(None,) * (4 - x.ndim)]
    return x if x.ndim == 4 else x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
