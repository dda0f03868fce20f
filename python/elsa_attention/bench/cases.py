"""What is measured: shapes and data of each case.

Random cases are standard normal; traces are what a real model's attention saw on real text; decode
cases are one query against a long cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import elsa_attention as ea

KEPT = (0.05, 0.1, 0.2, 0.3, 0.4)
DECODE_KEPT = (0.02, 0.05, 0.1, 0.2)
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CACHES = (4096, 32768, 131072)
TRACES = ("minilm", "rxn-albert")
KINDS = ("random", "traces", "decode")
PRECISIONS = ("float32", "16bit", "int8")

_HEADS = 12  # of BERT-base
# Our choice: fewer heads where one call would take many seconds. Work per head does not change.
_LONG = {4096: 4, 8192: 2, 16384: 1}
_CALIBRATION_ROWS = 192  # queries per head and call: 192 x n pairs say enough about a share of .05


@dataclass(frozen=True)
class Case:
    """One thing to compute; n_q and n_k are 0 for traces, whose texts have their own lengths."""

    kind: str  # one of KINDS
    threads: int
    n_q: int = 0
    n_k: int = 0
    d: int = 0
    heads: int = 0
    kv_heads: int = 0
    causal: bool = False
    model: str = ""

    @property
    def name(self) -> str:
        """Unique in a run, and stable over runs."""
        threads = f"t{self.threads}"
        if self.kind == "traces":
            return f"{self.model}-{threads}"
        heads = f"{self.heads}" if self.heads == self.kv_heads else f"{self.heads}/{self.kv_heads}"
        shape = f"n{self.n_k}-d{self.d}-h{heads}"
        causal = "-causal" if self.causal else ""
        return f"{self.kind}-{shape}{causal}-{threads}"


@dataclass(frozen=True)
class Call:
    """One call of attention. Shapes: q [1, heads, n_q, d]; k, v [1, kv_heads, n_k, d]."""

    layer: int
    q: Any
    k: Any
    v: Any


@dataclass
class Problem:
    """A case with its data, the same for every contestant."""

    case: Case
    calls: list[Call]  # float32
    plans: dict[float, ea.Plan] = field(default_factory=dict)  # by the share of pairs to keep
    scale: float | None = None  # of the scores; None: 1/sqrt(d)
    _other: dict[Any, list[Call]] = field(default_factory=dict, repr=False)

    def tensors(self, precision: str) -> list[Call]:
        """The calls in the dtype of a precision: float32, or bfloat16 for the others."""
        if precision == "float32":
            return self.calls
        import torch

        if not self._other:
            self._other["bf16"] = [
                Call(c.layer, *(x.to(torch.bfloat16) for x in (c.q, c.k, c.v))) for c in self.calls
            ]
        return self._other["bf16"]

    @property
    def lengths(self) -> list[int]:
        """Number of keys of each call."""
        return [call.k.shape[2] for call in self.calls]

    @property
    def flop(self) -> float:
        """Of exact attention: two products over the pairs that are visible."""
        total = 0.0
        for call in self.calls:
            _, heads, n_q, d = call.q.shape
            n_k = call.k.shape[2]
            pairs = n_q * (n_q + 1) / 2 if self.case.causal else n_q * n_k
            total += 4.0 * heads * pairs * d
        return total


def heads_of(n: int) -> int:
    """How many heads a random case of this length has."""
    return min((heads for length, heads in _LONG.items() if n >= length), default=_HEADS)


def choose(
    kinds: Sequence[str],
    lengths: Sequence[int] | None,
    ds: Sequence[int] | None,
    causal: Sequence[bool] | None,
    threads: Sequence[int],
    caches: Sequence[int],
) -> list[Case]:
    """The cases of a run: a fixed list, or every combination of what was asked for."""
    cases: list[Case] = []
    if "random" in kinds:
        if lengths or ds or causal:
            grid = [
                (n, d, c, t)
                for d in ds or (64,)
                for c in causal or (False,)
                for t in threads
                for n in lengths or LENGTHS
            ]
        else:
            grid = list(_standard(threads))
        for n, d, is_causal, count in grid:
            heads = heads_of(n)
            cases.append(Case("random", count, n, n, d, heads, heads, is_causal))
    if "traces" in kinds:
        cases += [Case("traces", count, model=model) for model in TRACES for count in threads]
    if "decode" in kinds:
        for count in threads:
            cases += [Case("decode", count, 1, n, 64, _HEADS, _HEADS) for n in caches]
            # As Llama 3 8B has them: four queries share a key.
            cases += [Case("decode", count, 1, n, 128, 32, 8) for n in caches if n == 32768]
    return cases


def _standard(threads: Iterable[int]) -> Iterable[tuple[int, int, bool, int]]:
    """One axis varies at a time, around d = 64, not causal, the first number of threads."""
    first, *others = threads
    for n in LENGTHS:
        yield n, 64, False, first
    for n in (512, 2048, 8192):
        yield n, 64, True, first
    for d in (32, 128):
        for n in (512, 2048):
            yield n, d, False, first
    for count in others:
        for n in (512, 2048, 8192):
            yield n, 64, False, count


def make(case: Case, kept: Sequence[float], remainder: str | None, seed: int) -> Problem:
    """Draws or captures a case's data and calibrates a plan for each share of pairs to keep.

    `remainder` None: "none" on random data as in the paper, "mean" on traces, where it is used.
    """
    if case.kind == "traces":
        from elsa_attention.bench import traces

        calls, calibration, scale = traces.captured(case.model)
        problem = Problem(case, calls, scale=scale)
    else:
        problem = Problem(case, [_random_call(case, seed)])
        calibration = problem.calls
    chosen = remainder or ("mean" if case.kind == "traces" else "none")
    for share in kept:
        problem.plans[share] = _plan(problem, calibration, share, chosen)
    return problem


def _random_call(case: Case, seed: int) -> Call:
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(heads: int, n: int) -> torch.Tensor:
        return torch.randn(1, heads, n, case.d, generator=generator)

    return Call(
        0,
        draw(case.heads, case.n_q),
        draw(case.kv_heads, case.n_k),
        draw(case.kv_heads, case.n_k),
    )


def _plan(problem: Problem, calls: Sequence[Call], share: float, remainder: str) -> ea.Plan:
    """A plan that keeps this share of the visible pairs of `calls`, learned on some of their rows.

    The hash has 64 bits whatever d is: the paper's k.
    """
    return ea.calibrate(
        [_some_rows(problem, call) for call in calls],
        budget=share,
        remainder=remainder,
        threads=problem.case.threads,
        model_name=problem.case.model or "random",
    )


def _some_rows(problem: Problem, call: Call) -> tuple:
    rows = sample_rows(call.q.shape[2], _CALIBRATION_ROWS)
    options: dict[str, Any] = {"scale": problem.scale, "enable_gqa": True}
    if problem.case.causal:
        options["attn_mask"] = visible(rows, call.k.shape[2])
    return call.layer, call.q[:, :, rows], call.k, call.v, options


def sample_rows(n: int, most: int) -> Any:
    """At most `most` row numbers of n: all, or both ends and rows drawn between them."""
    import torch

    if n <= most:
        return torch.arange(n)
    generator = torch.Generator().manual_seed(n)
    between = torch.randperm(n - 4, generator=generator)[: most - 4] + 2
    return torch.cat([torch.tensor([0, 1, n - 2, n - 1]), between]).sort().values


def visible(rows: Any, n: int) -> Any:
    """The causal mask of some rows. Shapes: [1, 1, rows, n]."""
    import torch

    return (torch.arange(n) <= rows[:, None])[None, None]
