"""Records the queries, keys and values of every attention layer, and writes them as a trace.

Sec. III works on Q, K and V of one head; a trace holds those of a whole model on real input. The
attention itself is computed exactly while recording, so later layers see exact activations.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elsa_attention.hf import observed
from elsa_attention.models.tokenizers import collate

if TYPE_CHECKING:
    import torch

    from elsa_attention.inputs import Inputs
    from elsa_attention.models import LoadedModel

_TRACE_VERSION = "1"
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass
class Activations:
    """What attention saw in every layer, over all sequences.

    Shapes: q[layer] [sequences, heads, n_max, d]; k and v may have fewer heads (grouped queries).
    Rows from a sequence's length on are zero.
    """

    lengths: list[int]
    scale: float | None = None
    causal: bool | None = None
    q: list[torch.Tensor] = field(default_factory=list)
    k: list[torch.Tensor] = field(default_factory=list)
    v: list[torch.Tensor] = field(default_factory=list)


class _Recorder:
    """Keeps what every attention call of one forward pass after the other saw."""

    def __init__(self, lengths: list[int], dtype: torch.dtype):
        self.activations = Activations(lengths)
        self._dtype = dtype
        self._causal = {False, True}  # what all calls so far agree with
        self.rows: list[int] = []  # the sequences of the forward pass at hand
        self.layers = 0  # seen in it

    def see(self, layer: int, inputs: Inputs) -> None:
        """Records one call."""
        where = f"layer {layer}"
        seen = self.activations
        seen.scale = inputs.scale if seen.scale is None else seen.scale
        if inputs.scale != seen.scale:
            raise ValueError(
                f"{where}: expected scale {seen.scale} as in layer 0, got {inputs.scale}"
            )
        self._causal &= _causality([seen.lengths[row] for row in self.rows], inputs)
        if not self._causal:
            raise ValueError(
                f"{where}: expected a mask of padding and causality only, got another "
                "(sliding window, additive bias or no padding mask)"
            )
        seen.causal = False not in self._causal
        if inputs.value.shape[-1] != inputs.query.shape[-1]:
            raise ValueError(
                f"{where}: expected values of {inputs.query.shape[-1]} components as queries have, "
                f"got {inputs.value.shape[-1]}"
            )
        for name, array in (("q", inputs.query), ("k", inputs.key), ("v", inputs.value)):
            self._store(layer, name, array)
        self.layers = layer + 1

    def _store(self, layer: int, name: str, array: np.ndarray) -> None:
        import torch

        layers, lengths = getattr(self.activations, name), self.activations.lengths
        if layer == len(layers):
            shape = (len(lengths), array.shape[1], max(lengths), array.shape[3])
            layers.append(torch.zeros(*shape, dtype=self._dtype))
        for line, row in enumerate(self.rows):
            real = torch.from_numpy(array[line, :, : lengths[row]]).to(self._dtype)
            if not bool(torch.isfinite(real).all()):
                raise ValueError(
                    f"layer {layer}: {name} of sequence {row}: expected values finite in "
                    f"{str(self._dtype).removeprefix('torch.')}, got infinity or NaN"
                )
            layers[layer][row, :, : lengths[row]] = real


def _causality(lengths: list[int], inputs: Inputs) -> set[bool]:
    """Which of "not causal" and "causal", with padding behind `lengths`, the call's masks say.

    Neither, if they say more than a trace can; both, if every sequence is one token long.
    """
    if inputs.bias is not None:
        return set()
    position = np.arange(inputs.query.shape[2])
    before = position <= position[:, None]
    real = position < np.array(lengths)[:, None]
    seen = np.broadcast_to(before if inputs.causal else True, (len(lengths), 1, *before.shape))
    if len(inputs.key_lengths):
        seen = seen & (position < np.array(inputs.key_lengths)[:, None])[:, None, None, :]
    if inputs.mask is not None:
        seen = seen & inputs.mask
    queries = real[:, None, :, None]
    return {
        causal
        for causal in (False, True)
        if not ((seen ^ (real[:, None, None, :] & (before | (not causal)))) & queries).any()
    }


def record(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    *,
    dtype: str = "f32",
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda done: None,
) -> Activations:
    """Runs token sequences through a model and keeps what its attention saw.

    Batches are padded on the right. `progress` is called with the number of sequences done.
    Errors: ValueError if the model's attention cannot be observed, or a trace cannot express it.
    """
    import torch

    lengths = [len(s) for s in sequences]
    recorder = _Recorder(lengths, getattr(torch, DTYPES[dtype]))
    order = sorted(range(len(sequences)), key=lambda row: (lengths[row], row))
    encoder = loaded.model.base_model  # a language-model head adds time and no attention
    with observed(encoder, recorder.see), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            recorder.rows = order[start : start + batch_size]
            recorder.layers = 0
            encoder(**collate([sequences[row] for row in recorder.rows], loaded.tokenizer.pad_id))
            if recorder.layers != loaded.layer_count:
                raise ValueError(
                    f"model {loaded.name}: expected {loaded.layer_count} attention calls through "
                    f"transformers' attention interface, got {recorder.layers}"
                )
            progress(start + len(recorder.rows))
    return recorder.activations


def write_trace(
    path: str | Path,
    activations: Activations,
    *,
    model: str,
    source_digest: str,
    tokens: list[list[str]],
) -> int:
    """Writes a trace file (.safetensors) and returns its size in bytes.

    `tokens` are the written tokens of each sequence. The file appears under its name only when it
    is complete; a link is followed. Errors: OSError.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(os.path.realpath(path))
    tensors = {
        f"layer.{layer}.{name}": tensor
        for name in ("q", "k", "v")
        for layer, tensor in enumerate(getattr(activations, name))
    }
    tensors["lengths"] = torch.tensor(activations.lengths, dtype=torch.int64)
    metadata = {
        "elsa.trace": _TRACE_VERSION,
        "elsa.model": model,
        "elsa.scale": repr(activations.scale),
        "elsa.causal": "true" if activations.causal else "false",
        "elsa.source_digest": source_digest,
        "tokens": json.dumps(tokens, ensure_ascii=False, separators=(",", ":")),
    }
    beside = target.with_name(f"{target.name}.{os.getpid()}-0.tmp")
    try:
        save_file(tensors, beside, metadata=metadata)
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)  # save_file leaves it readable to its owner only
        os.replace(beside, target)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return target.stat().st_size
