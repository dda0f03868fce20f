"""Text to token ids and back, with one small interface for every model.

Batches are always padded on the right: real tokens are rows 0 .. length-1 of every tensor, the
convention of a trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

# One SMILES token: a bracket atom, a two-letter atom, an atom of the organic subset (aromatic ones
# in lower case), a two-digit ring closure, the reaction arrow, or one bond, branch, ring, dot or
# arrow symbol.
_SMILES_TOKEN = re.compile(
    r"\[[^\]]+\]|Br|Cl|[BCNOPSFI]|[bcnops]|%[0-9]{2}|>>|[0-9().=#\-+\\/:~@?>*$]"
)


class Tokenizer(Protocol):
    """What models, tasks and capture need of a tokenizer."""

    pad_id: int
    mask_id: int | None
    special_ids: frozenset[int]

    def encode(self, text: str, max_length: int) -> list[int]:
        """Token ids of one text with the model's special tokens, cut to max_length.

        Errors: ValueError if max_length leaves no room for a token between the special ones.
        """

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The written form of each id."""

    def encode_batch(self, texts: Sequence[str], max_length: int) -> dict[str, torch.Tensor]:
        """Padded input_ids and attention_mask, both int64 [batch, n_max]."""


def collate(sequences: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pads sequences of ids on the right into input_ids and attention_mask.

    Shapes: two int64 tensors [batch, n_max]; attention_mask is 1 on real tokens.
    """
    import torch

    longest = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def split_smiles(text: str) -> list[str]:
    """The SMILES tokens of a molecule or reaction; joined, they give the text back.

    Errors: ValueError naming the first character that is not part of a token.
    """
    tokens, position = [], 0
    while position < len(text):
        match = _SMILES_TOKEN.match(text, position)
        if match is None:
            raise ValueError(
                f"SMILES {text[:40]!r}: character {position + 1}: expected a SMILES token, "
                f"got {text[position]!r}"
            )
        tokens.append(match.group())
        position = match.end()
    return tokens


class SmilesTokenizer:
    """Tokens of a reaction SMILES by one regular expression, ids by a vocabulary file.

    The vocabulary has one token per line, its id is the line number from 0. Unknown tokens become
    [UNK].
    """

    def __init__(self, vocabulary: Path):
        self._tokens = vocabulary.read_text(encoding="utf-8").splitlines()
        self._ids = {token: index for index, token in enumerate(self._tokens)}
        needed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        absent = [token for token in needed if token not in self._ids]
        if absent:
            raise ValueError(f"{vocabulary}: expected the line {absent[0]}, got none")
        self.pad_id, self.unknown_id, self._start_id, self._end_id, self.mask_id = (
            self._ids[token] for token in needed
        )
        self.special_ids = frozenset(self._ids[token] for token in needed)

    def knows(self, text: str) -> bool:
        """Whether the text is SMILES whose tokens are all in the vocabulary."""
        try:
            return all(token in self._ids for token in split_smiles(text))
        except ValueError:
            return False

    def encode(self, text: str, max_length: int) -> list[int]:
        """Token ids of one reaction between [CLS] and [SEP], cut to max_length."""
        if max_length < 3:
            raise ValueError(f"max_length: expected 3 or more tokens, got {max_length}")
        body = [self._ids.get(token, self.unknown_id) for token in split_smiles(text)]
        return [self._start_id, *body[: max_length - 2], self._end_id]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The written form of each id."""
        return [self._tokens[int(i)] for i in ids]

    def encode_batch(self, texts: Sequence[str], max_length: int) -> dict[str, torch.Tensor]:
        """Padded input_ids and attention_mask, both int64 [batch, n_max]."""
        return collate([self.encode(text, max_length) for text in texts], self.pad_id)


class HuggingFaceTokenizer:
    """A transformers tokenizer behind the Tokenizer interface."""

    def __init__(self, inner: Any):
        self._inner = inner
        # Decoders often have no padding token. Padded positions are masked, so any id serves.
        candidates = (inner.pad_token_id, inner.eos_token_id, 0)
        self.pad_id = next(i for i in candidates if i is not None)
        self.mask_id = inner.mask_token_id
        self.special_ids = frozenset(inner.all_special_ids)
        self.max_length = int(inner.model_max_length)

    def encode(self, text: str, max_length: int) -> list[int]:
        """Token ids of one text with the model's special tokens, cut to max_length."""
        least = self._inner.num_special_tokens_to_add() + 1
        if max_length < least:  # transformers would silently not cut at all
            raise ValueError(f"max_length: expected {least} or more tokens, got {max_length}")
        return list(self._inner(text, truncation=True, max_length=max_length)["input_ids"])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The written form of each id."""
        return list(self._inner.convert_ids_to_tokens([int(i) for i in ids]))

    def encode_batch(self, texts: Sequence[str], max_length: int) -> dict[str, torch.Tensor]:
        """Padded input_ids and attention_mask, both int64 [batch, n_max]."""
        return collate([self.encode(text, max_length) for text in texts], self.pad_id)
