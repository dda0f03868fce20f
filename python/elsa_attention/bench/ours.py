"""ELSA's contestants: the engine `cpu` through the same functions that users call."""

from __future__ import annotations

from collections import Counter
from typing import Any

import elsa_attention as ea
from elsa_attention.bench.cases import Problem
from elsa_attention.bench.peers import Contestant

EXACT = {"float32": "exact", "16bit": "exact-16bit"}
_ELSA = {"float32": "elsa", "16bit": "elsa-16bit", "int8": "elsa-int8"}


def name_of(precision: str, share: float | None) -> str:
    """As reports call a contestant: exact, exact-16bit, elsa@0.1, elsa-int8@0.1."""
    return EXACT[precision] if share is None else f"{_ELSA[precision]}@{share:g}"


class Ours(Contestant):
    """ea.attention, exact without a share. 16-bit and int8 read bfloat16 tensors."""

    ours = True

    def __init__(self, problem: Problem, precision: str, share: float | None = None):
        self.name, self.precision, self.share = name_of(precision, share), precision, share
        self._calls = problem.tensors(precision)
        self._options = {
            "is_causal": problem.case.causal,
            "scale": problem.scale,
            "enable_gqa": True,
            "plan": None if share is None else problem.plans[share],
            "threads": problem.case.threads,
            "engine": "cpu",
            "precision": precision,
        }
        self._results: list[Any] = [None] * len(self._calls)

    def run(self) -> None:
        for i, call in enumerate(self._calls):
            self._results[i] = ea.attention(
                call.q, call.k, call.v, layer=call.layer, **self._options
            )

    def results(self) -> list[Any]:
        return self._results

    def statistics(self) -> dict[str, Any]:
        """The share of pairs kept, how many heads were computed how, and by which target."""
        kept = pairs = 0
        paths: Counter[str] = Counter()
        target = None
        for call in self._calls:
            _, heads = ea.attention(
                call.q, call.k, call.v, layer=call.layer, return_stats=True, **self._options
            )
            target = heads.target
            for head in heads:
                kept, pairs = kept + head.kept, pairs + head.pairs
                paths.update(head.paths)
        return {
            "kept_fraction": kept / pairs if pairs else 1.0,
            "paths": dict(paths),
            "target": target,
        }


def make(problem: Problem, precision: str, share: float | None) -> Contestant:
    """The contestant for a problem: a cache for decoding, else attention on tensors."""
    if problem.case.kind == "decode":
        from elsa_attention.bench.decode import Cached

        return Cached(problem, precision, share)
    return Ours(problem, precision, share)
