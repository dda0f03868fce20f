"""The protocol of a task: inputs for calibration, an evaluation, and its cost against exact.

A task never chooses the attention. It runs whatever the model is set to, so the same code measures
exact and approximate attention.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from elsa_attention.models.tokenizers import collate

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel

# Our choice: tokens of one padded batch. Larger ones are no faster on two cores.
_BATCH_TOKENS = 4096
# Our choice: enough that the bounds of a 95 % interval move by less than its rounding.
_RESAMPLES = 2000


@dataclass(frozen=True)
class Run:
    """What a task's model pass returns, before it is judged.

    `predictions` are what fidelity compares. `scores` [examples, ...] is what the metric is
    computed from; examples are the independent units of the data (reactions, documents), the ones
    a bootstrap draws. Both keep one order over every pass of a task.
    """

    predictions: np.ndarray
    scores: np.ndarray
    sequences: list[list[int]]


@dataclass(frozen=True)
class TaskResult:
    """One evaluation pass: its metric, what it was computed from, and how much work it was."""

    task: str
    metric_name: str
    metric: float
    predictions: np.ndarray
    scores: np.ndarray
    sequences: int
    tokens: int  # real tokens of all sequences
    pairs: int  # real (query, key) pairs of unmasked attention over all layers and heads

    @property
    def examples(self) -> int:
        """Independent units of the data: reactions or documents."""
        return len(self.scores)


@dataclass(frozen=True)
class Change:
    """A metric minus the exact metric, with its 95 % interval from a paired bootstrap."""

    value: float
    low: float
    high: float
    relative: float  # value / exact metric
    relative_low: float
    relative_high: float


class Task(ABC):
    """One job on one data set. Subclasses say what is run and how it is judged."""

    name: str
    metric_name: str
    fidelity_name: str

    @abstractmethod
    def calibration_sequences(self, loaded: LoadedModel) -> list[list[int]]:
        """Token ids to learn thresholds from; no example of them is evaluated."""

    @abstractmethod
    def evaluation_sequences(self, loaded: LoadedModel) -> list[list[int]]:
        """Token ids that an evaluation pass runs.

        Errors: ValueError if the model cannot do the task.
        """

    @abstractmethod
    def metric_of(self, scores: np.ndarray, exact: np.ndarray, examples: np.ndarray) -> float:
        """The metric over a selection of examples, which may repeat (a bootstrap draw).

        `scores` and `exact` are Run.scores of the pass to judge and of the exact model.
        """

    @abstractmethod
    def fidelity_values(self, exact: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """How close each prediction is to the exact one, 1 = the same."""

    @abstractmethod
    def _run(self, loaded: LoadedModel) -> Run:
        """Runs the evaluation data through the model as it is set now."""

    def calibration_batches(self, loaded: LoadedModel) -> Iterator[dict[str, Any]]:
        """Padded model inputs (torch tensors) to learn thresholds from."""
        for _, batch in batches(self.calibration_sequences(loaded), loaded.tokenizer.pad_id):
            yield batch

    def evaluate(self, loaded: LoadedModel, exact: TaskResult | None = None) -> TaskResult:
        """Runs the evaluation data through the model as it is set now, and judges it.

        `exact` is the exact model's result; without it this pass is taken to be the exact one
        (only the fidelity task compares with it). Errors: ValueError if the model cannot do it.
        """
        run = self._run(loaded)
        truth = exact.scores if exact else run.scores
        return TaskResult(
            task=self.name,
            metric_name=self.metric_name,
            metric=self.metric_of(run.scores, truth, np.arange(len(run.scores))),
            predictions=run.predictions,
            scores=run.scores,
            sequences=len(run.sequences),
            tokens=sum(map(len, run.sequences)),
            pairs=_pair_count(run.sequences, loaded),
        )

    def fidelity(self, exact: TaskResult, result: TaskResult) -> dict[str, Any]:
        """The mean closeness to the exact model's predictions: {"name", "value"}."""
        values = self.fidelity_values(exact.predictions, result.predictions)
        return {"name": self.fidelity_name, "value": float(values.mean())}

    def change(self, exact: TaskResult, result: TaskResult, seed: int = 0) -> Change:
        """How the metric differs from exact, with a paired bootstrap over examples.

        The same draws are used for both results, so what the examples share cancels.
        """

        def metrics(scores: np.ndarray) -> np.ndarray:
            return np.array([self.metric_of(scores, exact.scores, draw) for draw in draws])

        count = exact.examples
        # RandomState: its stream is frozen over numpy versions, unlike Generator's.
        draws = np.random.RandomState(seed).randint(count, size=(_RESAMPLES, count))
        base, other = metrics(exact.scores), metrics(result.scores)
        low, high = np.nanquantile(other - base, (0.025, 0.975))
        relative_low, relative_high = np.nanquantile((other - base) / base, (0.025, 0.975))
        return Change(
            value=result.metric - exact.metric,
            low=float(low),
            high=float(high),
            relative=(result.metric - exact.metric) / exact.metric,
            relative_low=float(relative_low),
            relative_high=float(relative_high),
        )


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items, evenly spaced, so that a subset is like the whole."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def batches(
    sequences: Sequence[Sequence[int]], pad_id: int, max_sequences: int = 64
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Right-padded batches of sequences of like length, longest last, with their row indices."""
    rows: list[int] = []
    for row in sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i)):
        full = len(rows) == max_sequences or (len(rows) + 1) * len(sequences[row]) > _BATCH_TOKENS
        if rows and full:
            yield rows, collate([sequences[i] for i in rows], pad_id)
            rows = []
        rows.append(row)
    if rows:
        yield rows, collate([sequences[i] for i in rows], pad_id)


def _pair_count(sequences: Sequence[Sequence[int]], loaded: LoadedModel) -> int:
    """Real (query, key) pairs of unmasked self-attention over all layers and heads."""
    return loaded.layer_count * loaded.head_count * sum(len(s) ** 2 for s in sequences)
