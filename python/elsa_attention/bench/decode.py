"""ELSA's contestants in decoding: one query against an `ea.KvCache` that was filled before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import elsa_attention as ea
from elsa_attention.bench import masks
from elsa_attention.bench.cases import Problem
from elsa_attention.bench.peers import Contestant
from elsa_attention.stats import CallStats, HeadStats

# Keys appended at once while a cache is filled: bounds temporary memory.
_CHUNK = 8192


class Cached(Contestant):
    """A step of decoding, exact without a share. 16bit stores bfloat16.

    With `union` the query heads that share keys keep what any of them keeps, in one pass.
    """

    ours = True

    def __init__(
        self, problem: Problem, name: str, precision: str, share: float | None, union: bool = False
    ):
        self.name, self.precision, self.share = name, precision, share
        (call,) = problem.tensors(precision)
        _, heads, n_q, d = call.q.shape
        kv_heads, n_k = call.k.shape[1:3]
        plan = None if share is None else problem.plans[share]
        if union:
            kept = masks.kept_keys(problem, 0, plan, precision)
            shared = kept.unflatten(0, (kv_heads, -1)).any(dim=1)
            self.masks = [shared.repeat_interleave(heads // kv_heads, dim=0)]
        self._query = call.q
        self._options = {
            "scale": problem.scale,
            "threads": problem.case.threads,
            "group_union": union,
        }
        self._cache = ea.KvCache(
            heads=heads, kv_heads=kv_heads, d=d, dtype=call.k.dtype, capacity=n_k, plan=plan
        )
        for start in range(0, n_k, _CHUNK):
            rows = slice(start, start + _CHUNK)
            self._cache.append(call.k[:, :, rows], call.v[:, :, rows])
        self._result: Any = None

    def run(self) -> None:
        self._result = self._cache.attend(self._query, **self._options)

    def results(self) -> list[Any]:
        return [self._result]

    def statistics(self) -> dict[str, Any]:
        """As Ours.statistics."""
        _, heads = self._cache.attend(self._query, return_stats=True, **self._options)
        return counted([heads])


def counted(calls: Sequence[CallStats]) -> dict[str, Any]:
    """The share of pairs kept, how many heads were computed how, and by which target."""
    total = HeadStats.total(head for heads in calls for head in heads)
    return {
        "kept_fraction": total.kept_fraction,
        "paths": {path: count for path, count in total.paths.items() if count},
        "target": calls[0].target,
    }
