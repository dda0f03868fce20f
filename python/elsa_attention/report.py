"""What the simulated accelerator did: cycles and where they went, energy, and the formats' ends.

Source: Sec. IV (cycles), Sec. V-D (energy). Everything is counted by the C++ core (elsa/sim,
elsa/cost); this adds up and names. Reports of several calls, such as the layers of a model, add up
with +.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from elsa_attention import _core
from elsa_attention.stats import HeadStats

# Table I of the paper, the only complete table.
TECHNOLOGY = "paper-40nm"


@dataclass(frozen=True)
class FormatUse:
    """How values met the ends of their number format."""

    values: int = 0
    saturated: int = 0  # at the end of the range; a score: clamped
    largest_use: float | None = None  # largest magnitude as a share of the range, where measured

    def __add__(self, other: FormatUse) -> FormatUse:
        uses = [u for u in (self.largest_use, other.largest_use) if u is not None]
        return FormatUse(
            self.values + other.values, self.saturated + other.saturated, max(uses, default=None)
        )


@dataclass(frozen=True)
class Formats:
    """Use of the formats (Sec. IV-E) by Q, K, V, key norms, scores and outputs."""

    query: FormatUse = field(default_factory=FormatUse)
    key: FormatUse = field(default_factory=FormatUse)
    value: FormatUse = field(default_factory=FormatUse)
    norm: FormatUse = field(default_factory=FormatUse)
    score: FormatUse = field(default_factory=FormatUse)
    output: FormatUse = field(default_factory=FormatUse)

    @classmethod
    def of(cls, rows: Mapping[str, tuple[int, int, float | None]]) -> Formats:
        """From the core's tuples."""
        return cls(**{name: FormatUse(*row) for name, row in rows.items()})

    def __add__(self, other: Formats) -> Formats:
        names = self.__dataclass_fields__
        return Formats(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class Breakdown:
    """A quantity by module, with where each figure comes from. The unit ends the name it has."""

    modules: dict[str, float]
    provenance: dict[str, str]
    external: frozenset[str]  # modules that are memories outside the accelerator

    @property
    def total(self) -> float:
        """One accelerator with its external memories."""
        return sum(self.modules.values())

    @property
    def accelerator(self) -> float:
        """One accelerator without them."""
        return sum(value for name, value in self.modules.items() if name not in self.external)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Breakdown:
        """From the core's rows."""
        rows = list(rows)
        return cls(
            {row["module"]: row["value"] for row in rows},
            {row["module"]: row["provenance"] for row in rows},
            frozenset(row["module"] for row in rows if row["external"]),
        )


@dataclass(frozen=True)
class Energy(Breakdown):
    """Energy by module, dynamic and static together, and what it consists of."""

    events: dict[str, float]  # counted, in the unit that the provenance names
    dynamic: dict[str, float]
    static: dict[str, float]
    groups: dict[str, float]  # the parts of Fig. 13(b)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Energy:
        rows = list(rows)
        base = Breakdown.of(rows)
        groups: dict[str, float] = {}
        for row in rows:
            groups[row["group"]] = groups.get(row["group"], 0.0) + row["value"]
        return cls(
            base.modules,
            base.provenance,
            base.external,
            {row["module"]: row["events"] for row in rows},
            {row["module"]: row["dynamic"] for row in rows},
            {row["module"]: row["static"] for row in rows},
            groups,
        )


class Report:
    """Cycles, energy and counts of the heads that an accelerator computed. Reports add up.

    Attributes:
        config: the machine's parameters.
        stats: HeadStats by head, summed over the batch and over what was added.
        formats: where values met the ends of their formats.
    """

    def __init__(
        self,
        config: _core.Config,
        native: _core.Simulation,
        stats: Iterable[HeadStats],
        formats: Formats,
    ):
        self.config = config
        self.stats = list(stats)
        self.formats = formats
        self._native = native

    @functools.cached_property
    def _counts(self) -> dict[str, Any]:
        return self._native.to_dict()

    @property
    def heads(self) -> int:
        """Attention operations: heads times batch, over all that was added."""
        return self._counts["heads"]

    @property
    def cycles(self) -> int:
        """Cycles of one accelerator that computes all heads one after the other."""
        return self._counts["cycles"]

    @property
    def phases(self) -> dict[str, int]:
        """The cycles by phase: command, copy, preprocess and execute."""
        names = ("command", "copy", "preprocess", "execute")
        return {name: self._counts[f"{name}_cycles"] for name in names}

    @property
    def causes(self) -> dict[str, int]:
        """The cycles by what the machine did, seen from the bank that is furthest behind."""
        return self._counts["machine"]

    @property
    def modules(self) -> dict[str, dict[str, int]]:
        """Cycles by cause of each module; they sum to cycles times `instances`."""
        return self._counts["modules"]

    @property
    def instances(self) -> dict[str, int]:
        """How many of each module there are."""
        return self._counts["instances"]

    @property
    def counters(self) -> dict[str, int]:
        """Counted events, from which energy is computed."""
        return self._counts["counters"]

    @property
    def longest_queue(self) -> int:
        """Most candidates that one selector's queue held."""
        return self._counts["longest_queue"]

    @property
    def time_s(self) -> float:
        """Seconds of one accelerator."""
        return self.cycles / self.config.clock_hz

    @property
    def makespan_cycles(self) -> int:
        """Cycles on all `config.accelerators`, heads side by side, calls one after the other."""
        return self._counts["makespan_cycles"]

    @property
    def makespan_s(self) -> float:
        """Seconds on all accelerators."""
        return self.makespan_cycles / self.config.clock_hz

    @functools.cached_property
    def energy_pj(self) -> Energy:
        """Energy by module, with Table I's power."""
        return Energy.of(self._native.energy(self.config, TECHNOLOGY)["modules"])

    @functools.cached_property
    def advice(self) -> dict[str, Any]:
        """What bounds the machine, and what each larger parameter would give: "trials".

        Found by simulating up to 16 of the heads again ("heads" says how many).
        """
        return self._native.advice(self.config)

    @property
    def sentence(self) -> str:
        """What bounds the machine and which parameter would help most, in one sentence."""
        told = self.advice
        some = f" (From {told['heads']} of {self.heads} heads.)"
        return told["sentence"] + (some if told["heads"] < self.heads else "")

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types; what `elsa simulate --json` also has, has its key."""
        energy, formats, total = self.energy_pj, self.formats, HeadStats.total(self.stats)
        return {
            "digest": self.config.digest,
            "format_set": self.config.formats,
            "parameters": self.config.to_dict(),
            "operations": self.heads,
            "cycles": self.cycles,
            **{f"{phase}_cycles": cycles for phase, cycles in self.phases.items()},
            "stall_cycles": _present(self.causes),
            "candidates": self.counters["candidates"],
            "pairs": total.pairs,
            "kept_fraction": total.kept_fraction,
            "fallback_queries": total.fallback_queries,
            "longest_queue": self.longest_queue,
            "latency_s": self.time_s / max(self.heads, 1),
            "accelerators": self.config.accelerators,
            "makespan_cycles": self.makespan_cycles,
            "makespan_s": self.makespan_s,
            "modules": {
                name: {"instances": self.instances[name], "cycles": _present(cycles)}
                for name, cycles in self.modules.items()
            },
            "counters": self.counters,
            "formats": {
                **{name: asdict(getattr(formats, name)) for name in ("query", "key", "value")},
                "saturated_norms": formats.norm.saturated,
                "clamped_scores": formats.score.saturated,
                "saturated_outputs": formats.output.saturated,
            },
            "energy_pj": {
                "total": energy.total,
                "groups": energy.groups,
                "modules": {
                    name: {
                        "total": energy.modules[name],
                        "dynamic": energy.dynamic[name],
                        "static": energy.static[name],
                        "events": energy.events[name],
                        "provenance": energy.provenance[name],
                    }
                    for name in energy.modules
                },
            },
            "advice": self.advice,
            "heads": [asdict(stats) for stats in self.stats],
        }

    def to_json(self) -> str:
        """One JSON object as text."""
        return json.dumps(self.as_dict())

    def __add__(self, other: Report) -> Report:
        if not isinstance(other, Report):
            return NotImplemented
        if self.config != other.config:
            raise ValueError(
                f"Report: expected reports of one machine, got digests {self.config.digest} and "
                f"{other.config.digest}"
            )
        pairs = itertools.zip_longest(self.stats, other.stats, fillvalue=HeadStats())
        return Report(
            self.config,
            self._native + other._native,
            [HeadStats.total(pair) for pair in pairs],
            self.formats + other.formats,
        )

    def __radd__(self, other: object) -> Report:
        return self if other == 0 else NotImplemented  # sum() begins with 0

    def __repr__(self) -> str:
        return (
            f"Report(heads={self.heads}, cycles={self.cycles}, "
            f"energy_pj={self.energy_pj.total:.6g}, digest={self.config.digest!r})"
        )


def _present(cycles: Mapping[str, int]) -> dict[str, int]:
    """Without causes that did not occur."""
    return {cause: count for cause, count in cycles.items() if count}
