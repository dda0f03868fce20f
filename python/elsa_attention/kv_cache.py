"""ea.KvCache: decoding against cached keys and values with the CPU engine (elsa/cpu/kv_cache.h)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elsa_attention import _core
from elsa_attention._tensors import (
    Tensor,
    gradient_is_wanted,
    mask_array,
    plain_tensor,
    require_one_kind,
    without_gradient,
)
from elsa_attention.cpu import as_dtype, empty, require_read, require_words, result_for, stats_of
from elsa_attention.inputs import broadcast, checked_lengths, integer, thread_count
from elsa_attention.plan import Plan, require_plan

_LARGE = 2**31 - 1


@dataclass(frozen=True)
class KvCacheStats:
    """What a cache did since it was made."""

    appended: int  # keys per sequence
    evicted: int  # keys per sequence
    moves: int  # times that all rows moved: growth, or room at the front
    cut_off_rebuilds: int  # times that a head's cut-offs were made anew for a new longest key
    mean_rebuilds: int  # times that the sums of a mean row were made anew


class KvCache:
    """Keys and values of one layer, appended as they come, and attention over them.

    All sequences of the batch have the same number of keys; mask the padding of shorter ones. With
    a plan a step keeps the keys that `attention` would keep. Threads that share a cache take turns.

        cache = ea.KvCache(heads=32, kv_heads=8, d=128, plan=plan, layer=3)
        cache.append(key, value)         # [batch, kv_heads, n_new, d]
        out = cache.attend(query)        # [batch, heads, n_q, d]: the last n_q positions
    """

    def __init__(
        self,
        *,
        heads: int,
        d: int,
        kv_heads: int | None = None,
        d_v: int | None = None,
        batch: int = 1,
        dtype: Any = "float32",
        capacity: int = 0,
        plan: Plan | None = None,
        layer: int = 0,
    ):
        """An empty cache.

        Args:
            heads, kv_heads: of queries, and of keys and values (by default as many).
            d, d_v: components of queries and keys, and of values (by default as many), to 256.
            batch: sequences.
            dtype: what keys and values are stored as: float32, float16 or bfloat16, as a word or
                as numpy or torch name it. They are computed with in float32.
            capacity: keys to make room for at once; the cache grows as it needs.
            plan, layer: what `calibrate` learned, and which of its layers this is; None is exact.

        Raises:
            ValueError: numbers that do not fit, or a plan of another shape.
            RuntimeError: a plan that needs all keys at once.
        """
        require_plan(plan)
        sizes = {
            "batch": batch,
            "kv_heads": heads if kv_heads is None else kv_heads,
            "heads": heads,
            "d": d,
            "d_v": d if d_v is None else d_v,
            "capacity": capacity,
        }
        sizes = {name: integer(name, size, -_LARGE) for name, size in sizes.items()}
        self._heads, self._d_v = sizes["heads"], sizes["d_v"]
        self._native = _core.KvCache(
            **sizes,
            dtype=_dtype_word(dtype),
            plan=None if plan is None else plan.native,
            layer=integer("layer", layer, -_LARGE),
        )

    def append(self, key: Tensor, value: Tensor) -> None:
        """Adds keys and values at the end, rounded to the cache's dtype.

        Shapes: key [batch, kv_heads, n_new, d], value [batch, kv_heads, n_new, d_v]; a batch of 1
        may be left out. Any floating dtype.
        """
        require_one_kind(key=key, value=value)
        if gradient_is_wanted(key, value):
            raise RuntimeError(
                "KvCache.append: expected inference only, got a tensor that wants a gradient: run "
                "under torch.no_grad()"
            )
        if self._native.append(key, value) is not NotImplemented:
            return
        _require_ranks(key=key, value=value)
        key, value = plain_tensor("key", key), plain_tensor("value", value)
        require_read(self._native.append(key, value))

    def attend(
        self,
        query: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = True,
        scale: float | None = None,
        *,
        select: str = "auto",
        group_union: bool = False,
        threads: int | None = None,
        return_stats: bool = False,
        return_log_sum_exp: bool = False,
    ) -> Any:
        """Attention of a few queries over the cached keys.

        Shapes: query [batch, heads, n_q, d]; the result [batch, heads, n_q, d_v] is of its kind and
        dtype.

        Args:
            attn_mask: broadcastable to [batch, heads, n_q, len(cache)], as in `attention`; it may
                be given together with is_causal.
            is_causal: the queries are the last n_q positions of the cache; else they see all.
            scale, select, threads, return_stats, return_log_sum_exp: as in `attention`.
            group_union: heads that share keys and values keep what any of them keeps: more keys
                than the plan asks for, one pass over the cache.

        Raises: the errors of `attention`.
        """
        require_words(select, select)
        require_one_kind(query=query, attn_mask=attn_mask)
        scale = None if scale is None else float(scale)
        options = (thread_count(threads), select, bool(group_union), return_stats)
        report: Any = NotImplemented
        sums: Any = None

        def run(q: Tensor, mask: Tensor | None, out: Tensor) -> None:
            nonlocal report, sums
            sums = empty(q, q.shape[:-1], float32=True) if return_log_sum_exp else None
            report = self._native.attend(
                q, mask, None, scale, bool(is_causal), out, sums, *options
            )  # fmt: skip

        if not gradient_is_wanted(query, attn_mask):
            out = result_for(query, self._d_v)
            run(query, attn_mask, out)
        if report is NotImplemented:

            def convert() -> Tensor:
                _require_ranks(query=query)
                q = plain_tensor("query", query)
                mask = None
                if attn_mask is not None:
                    pairs = (*query.shape[:-1], len(self))
                    mask = broadcast("attn_mask", mask_array("attn_mask", attn_mask), pairs)
                out = empty(q, (*q.shape[:-1], self._d_v))
                run(q, mask, out)
                require_read(report)
                return as_dtype(out, query.dtype)

            out = without_gradient(convert, query, attn_mask)
        extras = ([sums] if return_log_sum_exp else []) + (
            [stats_of(report)] if return_stats else []
        )
        return (out, *extras) if extras else out

    def evict_front(self, count: int) -> None:
        """Removes the oldest keys, for a sliding window; those the plan always keeps stay."""
        self._native.evict_front(integer("count", count, -_LARGE))

    def truncate(self, length: int) -> None:
        """Keeps the first `length` keys: takes back what was appended."""
        self._native.truncate(integer("length", length, -_LARGE))

    def clear(self) -> None:
        """Removes all keys."""
        self._native.truncate(0)

    def reorder(self, rows: Sequence[int] | Tensor) -> None:
        """Sequence i becomes a copy of what sequence rows[i] was, for beam search.

        The batch becomes len(rows).
        """
        count = len(rows) if hasattr(rows, "__len__") else self.batch
        self._native.reorder(checked_lengths(rows, count, "rows"))

    def __len__(self) -> int:
        """Keys per sequence."""
        return self._native.size

    @property
    def batch(self) -> int:
        """Sequences."""
        return self._native.batch

    @property
    def capacity(self) -> int:
        """Keys per sequence that fit without growing."""
        return self._native.capacity

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._native.bytes

    @property
    def stats(self) -> KvCacheStats:
        """Counts since the cache was made."""
        return KvCacheStats(**self._native.stats)

    def __repr__(self) -> str:
        return f"KvCache(batch={self.batch}, heads={self._heads}, keys={len(self)})"


def _dtype_word(dtype: object) -> str:
    if isinstance(dtype, str):
        return dtype
    try:  # numpy.float32 and numpy.dtype("float32"); torch.float32 is named by its text
        return np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        return str(dtype).removeprefix("torch.")


def _require_ranks(**tensors: Tensor) -> None:
    ranks = {name: x.ndim for name, x in tensors.items()}
    if len(set(ranks.values())) > 1 or not all(2 <= rank <= 4 for rank in ranks.values()):
        got = " and ".join(map(str, ranks.values()))
        raise ValueError(f"{' and '.join(ranks)}: expected one rank, 2 to 4, got {got}")
