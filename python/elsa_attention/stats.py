"""What attention with a plan computed, counted per head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HeadStats:
    """Counts of one head, or a sum of several; padding is not counted."""

    queries: int = 0
    empty_queries: int = 0  # saw no key: output 0
    fallback_queries: int = 0  # the test kept none of the keys seen, the best estimate was kept
    exact_queries: int = 0  # selection bypassed: no plan, p = 0, exact head or dense_below
    pairs: int = 0  # (query, visible key)
    kept: int = 0  # of these, computed
    mass_kept_sum: float | None = 0.0  # over queries that see a key; None if not measured
    # Engine cpu: in how many batch entries the head was computed how: "exact" (no plan, p = 0),
    # "selected" (by the plan), or exactly although there is a plan because that is as fast:
    # "exact_expected", "exact_observed", "exact_too_short".
    paths: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def kept_fraction(self) -> float:
        """Share of the real (query, key) pairs that was computed; 1 if there are none."""
        return self.kept / self.pairs if self.pairs else 1.0

    @property
    def mass_kept(self) -> float | None:
        """Mean softmax weight on kept keys; None if it was not measured, 1 without queries."""
        if self.mass_kept_sum is None:
            return None
        seeing = self.queries - self.empty_queries
        return self.mass_kept_sum / seeing if seeing else 1.0

    def __add__(self, other: HeadStats) -> HeadStats:
        measured = self.mass_kept_sum is not None and other.mass_kept_sum is not None
        return HeadStats(
            self.queries + other.queries,
            self.empty_queries + other.empty_queries,
            self.fallback_queries + other.fallback_queries,
            self.exact_queries + other.exact_queries,
            self.pairs + other.pairs,
            self.kept + other.kept,
            self.mass_kept_sum + other.mass_kept_sum if measured else None,
            {
                path: self.paths.get(path, 0) + other.paths.get(path, 0)
                for path in {**self.paths, **other.paths}
            },
        )

    @staticmethod
    def total(parts: Iterable[HeadStats]) -> HeadStats:
        """The sum of many."""
        return sum(parts, HeadStats())


class CallStats(list[HeadStats]):
    """One HeadStats per head of a call; of the engine cpu also what computed them."""

    target: str | None = None  # the instruction set, as `cpu_targets` names it
    precision: str | None = None  # what precision="auto" became
