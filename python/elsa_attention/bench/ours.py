"""ELSA's contestants: the engine `cpu` through the same functions that users call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import elsa_attention as ea
from elsa_attention.bench.cases import Problem
from elsa_attention.bench.decode import Cached, counted
from elsa_attention.bench.peers import Contestant

_EXACT = {"float32": "exact", "16bit": "exact-16bit"}
_ELSA = {"float32": "elsa", "16bit": "elsa-16bit", "int8": "elsa-int8"}
EXACT_NAMES = tuple(_EXACT.values())


def entrants(
    problem: Problem, precisions: Sequence[str], kept: Sequence[float]
) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    """Names, as reports have them, and how to set each up: exact, elsa@0.1, elsa-int8@0.1, ..."""
    is_decode = problem.case.kind == "decode"
    grouped = problem.case.heads != problem.case.kv_heads
    for precision in precisions:
        if is_decode and precision == "int8":
            continue  # caches store float32 or 16 bits
        shares = [None, *kept] if precision in _EXACT else kept
        for share in shares:
            name = _EXACT[precision] if share is None else f"{_ELSA[precision]}@{share:g}"
            if not is_decode:
                yield name, partial(Ours, problem, name, precision, share)
                continue
            yield name, partial(Cached, problem, name, precision, share)
            if grouped and share is not None:
                name = f"{_ELSA[precision]}-union@{share:g}"
                yield name, partial(Cached, problem, name, precision, share, True)


class Ours(Contestant):
    """ea.attention, exact without a share. 16-bit and int8 read bfloat16 tensors."""

    ours = True

    def __init__(self, problem: Problem, name: str, precision: str, share: float | None):
        self.name, self.precision, self.share = name, precision, share
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
        calls = [
            ea.attention(
                call.q, call.k, call.v, layer=call.layer, return_stats=True, **self._options
            )[1]
            for call in self._calls
        ]
        return counted(calls)
