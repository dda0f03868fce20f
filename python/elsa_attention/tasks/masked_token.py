"""Task masked-token: how often a masked language model still names the masked token.

Every real token of a reaction is masked exactly once per round, about a seventh of them at a time.
Half of the reactions are for calibration, the rest for evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elsa_attention.models.tokenizers import SmilesTokenizer
from elsa_attention.tasks import readers
from elsa_attention.tasks.base import Run, Task, batches, spread

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel

_MASK_SETS = 7  # 1/7 = 14 % masked at a time, near the 15 % of the models' training
_MIN_MASKED = 3000  # evaluation rounds are repeated with other mask sets up to this many tokens
_CALIBRATION_SEQUENCES = 64  # mask sets per calibration reaction are chosen to come near this


@dataclass(frozen=True)
class _Masked:
    """One evaluation input: masked ids, and what stood at the masked positions."""

    example: int
    ids: list[int]
    positions: np.ndarray
    answers: np.ndarray


class MaskedToken(Task):
    """Accuracy over masked tokens; fidelity is agreement with the exact model's predictions."""

    name = "masked-token"
    metric_name = "masked_token_accuracy"
    fidelity_name = "prediction_agreement"

    def __init__(self, data: str | Path | None = None, limit: int = 80):
        """`limit` bounds the examples read, calibration and evaluation together."""
        self._data = data
        self._limit = limit

    def calibration_sequences(self, loaded: LoadedModel) -> list[list[int]]:
        """Masked inputs of the calibration half."""
        groups = self._split(loaded)[0]
        texts = [text for group in groups for text in group]
        sets = min(_MASK_SETS, max(1, _CALIBRATION_SEQUENCES // len(texts)))
        inputs = []
        for row, text in enumerate(texts):
            ids = loaded.tokenizer.encode(text, loaded.max_length)
            inputs += [m.ids for m in _masked(row, ids, loaded, seed=(1, row, 0))[:sets]]
        return inputs

    def evaluation_sequences(self, loaded: LoadedModel) -> list[list[int]]:
        """Masked inputs of the evaluation half."""
        return [m.ids for m in self._evaluation_inputs(loaded)]

    def metric_of(self, scores: np.ndarray, exact: np.ndarray, examples: np.ndarray) -> float:
        """Correct over masked tokens of the drawn examples."""
        correct, masked = scores[examples].sum(axis=0)
        return float(correct / masked)

    def fidelity_values(self, exact: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """1 where the predicted token is the exact model's."""
        return (exact == predictions).astype(np.float64)

    def _run(self, loaded: LoadedModel) -> Run:
        import torch

        inputs = self._evaluation_inputs(loaded)
        sequences = [m.ids for m in inputs]
        predicted: list[np.ndarray] = [np.empty(0)] * len(inputs)
        with torch.inference_mode():
            for rows, batch in batches(sequences, loaded.tokenizer.pad_id):
                best = loaded.model(**batch).logits.argmax(dim=-1).numpy()
                for line, row in enumerate(rows):
                    predicted[row] = best[line, inputs[row].positions]
        scores = np.zeros((1 + max(m.example for m in inputs), 2))  # correct, masked
        for m, p in zip(inputs, predicted, strict=True):
            scores[m.example] += ((p == m.answers).sum(), len(p))
        return Run(np.concatenate(predicted), scores=scores, sequences=sequences)

    def _evaluation_inputs(self, loaded: LoadedModel) -> list[_Masked]:
        groups = [
            [loaded.tokenizer.encode(text, loaded.max_length) for text in group]
            for group in self._split(loaded)[1]
        ]
        maskable = sum(len(_maskable(ids, loaded)) for group in groups for ids in group)
        if maskable == 0:
            raise ValueError("masked-token: expected text with tokens to mask, got none")
        rounds = math.ceil(_MIN_MASKED / maskable)
        return [
            masked
            for example, group in enumerate(groups)
            for spelling, ids in enumerate(group)
            for turn in range(rounds)
            for masked in _masked(example, ids, loaded, seed=(2, example, spelling, turn))
        ]

    def _split(self, loaded: LoadedModel) -> tuple[list[list[str]], list[list[str]]]:
        """Calibration and evaluation examples; each is a group of spellings of one reaction."""
        if not loaded.is_masked_language_model or loaded.tokenizer.mask_id is None:
            raise ValueError(
                f"masked-token: model {loaded.name}: expected a masked language model, "
                f"got {type(loaded.model).__name__}"
            )
        groups = spread(self._groups(loaded), self._limit)
        if len(groups) < 2:
            raise ValueError(f"masked-token: expected at least 2 examples, got {len(groups)}")
        # Short and long in turn, so that both halves have inputs of every length.
        groups.sort(key=lambda g: (max(map(len, g)), g))
        return groups[1::2], groups[0::2]

    def _groups(self, loaded: LoadedModel) -> list[list[str]]:
        if not isinstance(loaded.tokenizer, SmilesTokenizer):
            if self._data is None:
                raise ValueError(
                    f"masked-token: model {loaded.name}: expected a data file, got none"
                )
            return [[text] for text in dict.fromkeys(readers.read_texts(self._data, loaded))]
        reactions = (
            readers.read_texts(self._data, loaded) if self._data else readers.bundled_reactions()
        )
        groups: dict[object, list[str]] = {}
        for reaction in filter(loaded.tokenizer.knows, reactions):
            groups.setdefault(readers.reaction_key(reaction), []).append(reaction)
        return list(groups.values())


def _maskable(ids: Sequence[int], loaded: LoadedModel) -> list[int]:
    return [i for i, token in enumerate(ids) if token not in loaded.tokenizer.special_ids]


def _masked(
    example: int, ids: list[int], loaded: LoadedModel, seed: tuple[int, ...]
) -> list[_Masked]:
    """The inputs of one round: disjoint mask sets that together cover every real token."""
    # RandomState: its stream is frozen over numpy versions, unlike Generator's.
    order = np.random.RandomState(list(seed)).permutation(_maskable(ids, loaded))
    inputs = []
    for turn in range(min(_MASK_SETS, len(order))):
        positions = np.sort(order[turn::_MASK_SETS])
        masked = np.array(ids)
        answers = masked[positions]
        masked[positions] = loaded.tokenizer.mask_id
        inputs.append(_Masked(example, masked.tolist(), positions, answers))
    return inputs
