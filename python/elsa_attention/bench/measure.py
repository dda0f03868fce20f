"""How long each contestant takes, all in turns, and ratios of times of the same round.

Other work on the computer meets every contestant of a round alike, so ratios are taken within
rounds; their median and spread over rounds are reported.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]
# Processor time of all threads does not grow while other programs run; it says nothing about how
# threads share work.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}

# Our choice. Threads of some libraries spin for tens of milliseconds after their work (whoever came
# after OpenVINO lost a third with two threads); a turn begins with untimed work of its own
# contestant, so that nobody is timed beside the last one's.
_SETTLE_S = 40e-3
_SETTLED_S = 60e-3  # beyond this a call's share of such spinning does not show
_TURN_S = 5e-3  # at least so much timed work in a turn
_LONG_S = 0.5  # warming up does not show in a call of this length
MIN_ROUNDS, MAX_ROUNDS = 5, 60


@dataclass(frozen=True)
class Spread:
    """Middle and width of repeated measurements."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        return cls(*(_quantile(ordered, q) for q in (0.5, 0.1, 0.9)))


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Linear between the two nearest of the ordered values."""
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def time_in_turns(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int | None = None,
    seconds: float = 10.0,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of every contestant in every round: A B C, A B C, ...

    `rounds` None: as many as fit into `seconds`, between MIN_ROUNDS and MAX_ROUNDS. Garbage
    collection is off meanwhile.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        estimates = {name: _estimate(run, clock) for name, run in contestants.items()}
        if rounds is None:
            turn = sum(_turn_s(t) for t in estimates.values())
            rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(seconds / max(turn, 1e-9))))
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, run in contestants.items():
                times[name].append(_turn(run, estimates[name], clock))
        return times
    finally:
        if collecting:
            gc.enable()


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Spread over rounds of one contestant's time over another's in the same round."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def _estimate(run: Callable[[], object], clock: Clock) -> float:
    """Seconds of one call: of the second if the first, which warms up, does not take long."""
    for _ in range(2):
        start = clock()
        run()
        seconds = clock() - start
        if seconds > _LONG_S:
            break
    return max(seconds, 1e-9)


def _repeats(estimate: float) -> int:
    return max(1, math.ceil(_TURN_S / estimate))


def _settling(estimate: float) -> int:
    return math.ceil(_SETTLE_S / estimate) if estimate < _SETTLED_S else 0


def _turn_s(estimate: float) -> float:
    return (_repeats(estimate) + _settling(estimate)) * estimate


def _turn(run: Callable[[], object], estimate: float, clock: Clock) -> float:
    for _ in range(_settling(estimate)):
        run()
    repeats = _repeats(estimate)
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats
