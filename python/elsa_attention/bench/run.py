"""Runs cases: sets up contestants, checks what they compute, then times those that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from elsa_attention.bench import cases, measure, ours
from elsa_attention.bench.cases import Case, Problem
from elsa_attention.bench.decode import Cached
from elsa_attention.bench.peers import Contestant, Peer, Refused
from elsa_attention.bench.truth import Truth, Verdict


@dataclass(frozen=True)
class Options:
    """What a run does beside its cases."""

    peers: Sequence[type[Peer]]
    kept: Sequence[float]
    decode_kept: Sequence[float] = cases.DECODE_KEPT
    precisions: Sequence[str] = cases.PRECISIONS
    remainder: str | None = None
    rounds: int | None = None
    seconds: float = 10.0
    clock: str = "wall"
    seed: int = 1


def run_case(case: Case, options: Options) -> dict[str, Any]:
    """Everything about one case, as docs/performance.md describes it."""
    import torch

    torch.set_num_threads(case.threads)
    torch._dynamo.reset()  # what FlexAttention compiled for other cases only costs guards
    with torch.inference_mode():
        kept = options.decode_kept if case.kind == "decode" else options.kept
        problem = cases.make(case, kept, options.remainder, options.seed)
        field = Field(problem)
        for peer in options.peers:
            field.enter(peer.name, lambda peer=peer: peer.prepare(problem), may_fail=True)
        for name, set_up in ours.entrants(problem, options.precisions, kept):
            field.enter(name, set_up)
        times = measure.time_in_turns(
            {c.name: c.run for c in field.right},
            rounds=options.rounds,
            seconds=options.seconds,
            clock=measure.CLOCKS[options.clock],
        )
        result = _result(problem, field, times)
        if case.kind == "decode":
            result["read_gbyte_per_s"] = _read_rate(problem, measure.CLOCKS[options.clock])
        return result


class Field:
    """The contestants of one problem, judged as they enter."""

    def __init__(self, problem: Problem):
        self.right: list[Contestant] = []
        self.verdicts: dict[str, Verdict] = {}
        self.wrong: list[dict[str, Any]] = []
        self.left_out: list[dict[str, str]] = []
        self._truth = Truth(problem)

    def enter(self, name: str, make: Callable[[], Contestant], may_fail: bool = False) -> None:
        """Sets up and runs a contestant once; only one whose result is right will be timed.

        A peer that fails is left out with its reason; a failure of ours counts as wrong.
        """
        try:
            contestant = make()
            contestant.run()
            verdict = self._truth.judge(
                [result.float() for result in contestant.results()],
                contestant.precision,
                contestant.share,
                contestant.masks,
                may_be_exact=contestant.ours,
            )
        except Refused as refused:
            self.left_out.append({"name": name, "reason": str(refused)})
            return
        except Exception as error:  # of any library, of any kind
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if may_fail:
                self.left_out.append({"name": name, "reason": reason})
            else:
                self.wrong.append({"name": name, "reason": reason})
            return
        if verdict.right:
            self.right.append(contestant)
            self.verdicts[contestant.name] = verdict
        else:
            self.wrong.append({"name": contestant.name, **asdict(verdict)})


def _read_rate(problem: Problem, clock: measure.Clock) -> float:
    """How fast this machine reads the float32 cache: the bound of exact decoding."""
    call = problem.calls[0]
    best = float("inf")
    for _ in range(7):
        start = clock()
        call.k.sum(), call.v.sum()
        best = min(best, clock() - start)
    return _cache_bytes(problem, "float32") / best * 1e-9


def _cache_bytes(problem: Problem, precision: str) -> int:
    call = problem.tensors(precision)[0]
    return call.k.nbytes + call.v.nbytes


def _result(problem: Problem, field: Field, times: dict[str, list[float]]) -> dict[str, Any]:
    """Shapes: times[contestant][round] in seconds."""
    case, first = problem.case, problem.calls[0]
    entries = [_entry(c, field.verdicts[c.name], times[c.name], problem) for c in field.right]
    return {
        "name": case.name,
        "kind": case.kind,
        "model": case.model or None,
        "n_q": max(call.q.shape[2] for call in problem.calls),
        "n_k": max(problem.lengths),
        "d": first.q.shape[3],
        "heads": first.q.shape[1],
        "kv_heads": first.k.shape[1],
        "calls": len(problem.calls),
        "causal": case.causal,
        "threads": case.threads,
        "rounds": len(next(iter(times.values()), [])),
        "fastest_peer": {
            "float32": fastest(entries, ("float32",)),
            "any": fastest(entries, cases.PRECISIONS),
        },
        "contestants": entries,
        "ratios": _ratios(field.right, times),
        "wrong": field.wrong,
        "left_out": field.left_out,
    }


def _entry(
    contestant: Contestant, verdict: Verdict, seconds: list[float], problem: Problem
) -> dict[str, Any]:
    spread = measure.Spread.of(seconds)
    entry = {
        "name": contestant.name,
        "ours": contestant.ours,
        "precision": contestant.precision,
        "confined": contestant.masks is not None,
        "median_s": spread.median,
        "p10_s": spread.p10,
        "p90_s": spread.p90,
        "exact_gflop_per_s": problem.flop / spread.median * 1e-9,
        "error_rel_l2": verdict.error_rel_l2,
        "tolerance": verdict.tolerance,
        "output_rel_l2": verdict.output_rel_l2,
    }
    if problem.case.kind == "decode":
        cached = _cache_bytes(problem, contestant.precision)
        entry["cache_gbyte_per_s"] = cached / spread.median * 1e-9
    if isinstance(contestant, ours.Ours | Cached):
        entry.update(contestant.statistics())
    return entry


def fastest(entries: Sequence[dict[str, Any]], precisions: Sequence[str]) -> str | None:
    """The peer of least median time that computes attention over all keys."""
    peers = [
        entry
        for entry in entries
        if not entry["ours"] and not entry["confined"] and entry["precision"] in precisions
    ]
    return min(peers, key=lambda entry: entry["median_s"])["name"] if peers else None


def _ratios(
    contestants: Sequence[Contestant], times: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """Of each of ours to each peer and to our exact mode: above 1, ours is faster."""
    others = [c.name for c in contestants if not c.ours or c.name in ours.EXACT_NAMES]
    return [
        {
            "ours": c.name,
            "other": other,
            **asdict(measure.paired_ratio(times[other], times[c.name])),
        }
        for c in contestants
        if c.ours
        for other in others
        if other != c.name
    ]
