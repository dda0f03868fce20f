"""Tasks on text embeddings: doc-similarity against people's judgements, fidelity without labels.

An embedding is the model's last hidden state pooled as the model's folder says (the mean over real
tokens without a word on it) and scaled to length 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elsa_attention.tasks import readers
from elsa_attention.tasks.base import Run, Task, batches, spread

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel

# Our choice: with more of them the thresholds no longer move, and they run in about a second.
_CALIBRATION_DOCUMENTS = 32


def embed(sequences: list[list[int]], loaded: LoadedModel) -> np.ndarray:
    """Unit embeddings of token sequences. Shapes: float64 [sequences, hidden]."""
    import torch

    encoder = loaded.model.base_model  # without a language-model head, if there is one
    embeddings = np.zeros((len(sequences), loaded.model.config.hidden_size))
    with torch.inference_mode():
        for rows, batch in batches(sequences, loaded.tokenizer.pad_id):
            hidden = encoder(**batch).last_hidden_state.double()
            if loaded.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                weight = batch["attention_mask"].double()[..., None]
                pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            embeddings[rows] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    return embeddings


class _EmbeddingTask(Task):
    """What both tasks share: documents are embedded, fidelity is the cosine to the exact ones."""

    fidelity_name = "embedding_cosine"

    def _texts(self, loaded: LoadedModel) -> tuple[list[str], list[str]]:
        """Documents for calibration and for evaluation."""
        raise NotImplementedError

    def calibration_sequences(self, loaded: LoadedModel) -> list[list[int]]:
        """Token ids of the calibration documents."""
        return _encode(self._texts(loaded)[0], loaded)

    def evaluation_sequences(self, loaded: LoadedModel) -> list[list[int]]:
        """Token ids of the evaluation documents."""
        return _encode(self._texts(loaded)[1], loaded)

    def fidelity_values(self, exact: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Cosine of each embedding to the exact one."""
        return (exact * predictions).sum(axis=1)

    def _run(self, loaded: LoadedModel) -> Run:
        sequences = self.evaluation_sequences(loaded)
        embeddings = embed(sequences, loaded)
        return Run(embeddings, scores=embeddings, sequences=sequences)


class DocSimilarity(_EmbeddingTask):
    """Pearson correlation of embedding cosines with people's judgements of the Lee documents.

    Each of the 1225 pairs i < j counts once. Thresholds come from the background documents.
    """

    name = "doc-similarity"
    metric_name = "pearson_correlation"

    def metric_of(self, scores: np.ndarray, exact: np.ndarray, examples: np.ndarray) -> float:
        """The correlation over all pairs of two different documents among the drawn ones."""
        human = readers.lee_similarities()
        first, second = np.triu_indices(len(examples), k=1)
        first, second = examples[first], examples[second]
        # A bootstrap draws a document twice; its pair with itself says nothing.
        first, second = first[first != second], second[first != second]
        cosine = scores @ scores.T
        return float(np.corrcoef(cosine[first, second], human[first, second])[0, 1])

    def _texts(self, loaded: LoadedModel) -> tuple[list[str], list[str]]:
        return spread(readers.lee_background(), _CALIBRATION_DOCUMENTS), readers.lee_documents()


class Fidelity(_EmbeddingTask):
    """Mean cosine of embeddings to the exact ones on the user's own text; needs no labels."""

    name = "fidelity"
    metric_name = "embedding_cosine"

    def __init__(self, data: str | Path, limit: int = 64):
        """`limit` bounds the documents read, calibration and evaluation together."""
        self._data = data
        self._limit = limit

    def metric_of(self, scores: np.ndarray, exact: np.ndarray, examples: np.ndarray) -> float:
        """Mean cosine to the exact embeddings of the drawn documents; 1 for the exact model."""
        return float(self.fidelity_values(exact[examples], scores[examples]).mean())

    def _texts(self, loaded: LoadedModel) -> tuple[list[str], list[str]]:
        texts = list(dict.fromkeys(readers.read_texts(self._data, loaded)))
        if len(texts) < 2:
            raise ValueError(f"{self._data}: expected at least 2 different documents, got 1")
        chosen = spread(texts, self._limit)
        return chosen[1::2], chosen[0::2]


def _encode(texts: list[str], loaded: LoadedModel) -> list[list[int]]:
    return [loaded.tokenizer.encode(text, loaded.max_length) for text in texts]
