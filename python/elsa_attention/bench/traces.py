"""What the attention of a bundled model saw on real text: the inputs of the trace cases.

Calibration and evaluation never share a text. One call per layer and sequence, without padding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from elsa_attention.bench.cases import Call

_MINILM_TOKENS = 512  # MiniLM's position table; its authors cut sentences at 256
_SEQUENCES = {"minilm": 1, "rxn-albert": 2}  # evaluated; as many again are calibrated on, twice


@functools.lru_cache(maxsize=2)
def captured(model: str) -> tuple[list[Call], list[Call], float | None]:
    """Calls to evaluate on, calls to calibrate on, and the scale of the scores if it is not
    1/sqrt(d).

    Errors: OSError if the packages with model and text are not installed.
    """
    from elsa_attention.models import load

    loaded = load(model)
    if model == "minilm":
        loaded = replace(loaded, max_length=_MINILM_TOKENS)
        sequences = _long_texts(loaded)
    else:
        sequences = _longest_reactions(loaded)
    count = _SEQUENCES[model]
    calls, scale = _record(loaded, sequences[:count])
    calibration, _ = _record(loaded, sequences[count : 3 * count])
    usual = math.isclose(scale, calls[0].q.shape[3] ** -0.5, rel_tol=1e-6)
    return calls, calibration, None if usual else scale


def _long_texts(loaded: Any) -> list[list[int]]:
    """Lee background documents, joined until they fill the position table."""
    from elsa_attention.tasks import readers

    sequences, text = [], ""
    for document in readers.lee_background():
        text = f"{text} {document}".strip()
        ids = loaded.tokenizer.encode(text, _MINILM_TOKENS)
        if len(ids) == _MINILM_TOKENS:
            sequences.append(ids)
            text = ""
        if len(sequences) == 3 * _SEQUENCES["minilm"]:
            break
    return sequences


def _longest_reactions(loaded: Any) -> list[list[int]]:
    from elsa_attention.tasks import readers

    texts = readers.bundled_reactions()
    sequences = [loaded.tokenizer.encode(text, loaded.max_length) for text in texts]
    return sorted(sequences, key=len, reverse=True)[: 3 * _SEQUENCES["rxn-albert"]]


def _record(loaded: Any, sequences: Sequence[list[int]]) -> tuple[list[Call], float]:
    from elsa_attention.models import activations

    seen = activations.record(loaded, sequences, dtype="f32", batch_size=1)
    if seen.causal or seen.scale is None:
        raise ValueError(f"bench: {loaded.name}: expected an encoder, got causal attention")
    calls = []
    for layer, tensors in enumerate(zip(seen.q, seen.k, seen.v, strict=True)):
        for row, length in enumerate(seen.lengths):
            calls.append(Call(layer, *(x[row : row + 1, :, :length].contiguous() for x in tensors)))
    return calls, seen.scale
