"""Records the queries, keys and values of every attention layer, and writes them as a trace.

Sec. III works on Q, K and V of one head; a trace holds those of a whole model on real input. The
attention itself is computed exactly while recording, so later layers see exact activations.
What it is not: an approximation backend (`elsa_attention.hf`).
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsa_attention.models.tokenizers import collate

if TYPE_CHECKING:
    import torch

    from elsa_attention.models import LoadedModel

_NAME = "elsa_capture"  # must hold neither "sdpa" nor "flash": transformers gives those a meaning
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
    """Takes over one attention call after the other. Layers are counted per forward pass, because
    ALBERT and DistilBERT do not number theirs (ALBERT runs all layers with one module)."""

    def __init__(self, lengths: list[int], dtype: torch.dtype):
        self.activations = Activations(lengths)
        self._dtype = dtype
        self._rows: list[int] = []
        self.layer = 0

    def begin(self, rows: list[int]) -> None:
        """Announces a forward pass over these sequences."""
        self._rows = rows
        self.layer = 0

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """Records one call and computes it exactly. Shapes: query [batch, heads, n, d]."""
        import torch

        where = f"layer {self.layer}"
        for term in ("softcap", "position_bias", "s_aux"):
            if kwargs.get(term) is not None:
                raise ValueError(f"{where}: expected plain softmax attention, got {term}")
        # A decoder says so on the module; the keyword is None unless a model overrides it.
        causal = bool(module.is_causal if is_causal is None else is_causal)
        scale = float(query.shape[-1] ** -0.5 if scaling is None else scaling)
        self._agree(where, scale, causal)
        self._check_mask(where, attention_mask, causal, query.shape[2])
        if value.shape[-1] != query.shape[-1]:
            raise ValueError(
                f"{where}: expected values of {query.shape[-1]} components as queries have, "
                f"got {value.shape[-1]}"
            )
        for name, tensor in (("q", query), ("k", key), ("v", value)):
            self._store(where, name, tensor)
        self.layer += 1
        output = torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            is_causal=causal and attention_mask is None,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return output.transpose(1, 2).contiguous(), None

    def _agree(self, where: str, scale: float, causal: bool) -> None:
        """A trace has one scale and one causal flag."""
        seen = self.activations
        if seen.scale is None:
            seen.scale, seen.causal = scale, causal
        if (scale, causal) != (seen.scale, seen.causal):
            raise ValueError(
                f"{where}: expected scale {seen.scale} and causal {seen.causal} as in layer 0, "
                f"got {scale} and {causal}"
            )

    def _check_mask(self, where: str, mask: torch.Tensor | None, causal: bool, width: int) -> None:
        """Refuses masks that `lengths` and `causal` cannot say, such as a sliding window."""
        import torch

        lengths = torch.tensor([self.activations.lengths[row] for row in self._rows])
        position = torch.arange(width)
        visible = (position < lengths[:, None])[:, None, None, :]
        if causal:
            visible = visible & (position <= position[:, None])
        if mask is None:
            # Real queries of a causal model see no padding, which stands behind them.
            plain = causal or bool((lengths == width).all())
        else:
            real = (position < lengths[:, None])[:, None, :, None]
            plain = mask.dtype == torch.bool and not bool(((mask ^ visible) & real).any())
        if not plain:
            raise ValueError(
                f"{where}: expected a mask of padding and causality only, got another "
                "(sliding window, additive bias or no padding mask)"
            )

    def _store(self, where: str, name: str, tensor: torch.Tensor) -> None:
        import torch

        layers = getattr(self.activations, name)
        if self.layer == len(layers):
            shape = (len(self.activations.lengths), tensor.shape[1], max(self.activations.lengths))
            layers.append(torch.zeros(*shape, tensor.shape[3], dtype=self._dtype))
        for line, row in enumerate(self._rows):
            length = self.activations.lengths[row]
            real = tensor[line, :, :length].to(self._dtype)
            if not bool(torch.isfinite(real).all()):
                raise ValueError(
                    f"{where}: {name} of sequence {row}: expected values finite in "
                    f"{str(self._dtype).removeprefix('torch.')}, got infinity or NaN"
                )
            layers[self.layer][row, :, :length] = real


_active: contextvars.ContextVar[_Recorder] = contextvars.ContextVar("elsa_recorder")


def _attention(module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
    """The function registered with transformers; hands over to the recorder of this context."""
    return _active.get().attend(module, *args, **kwargs)


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
    with _observed(loaded.model, recorder), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            recorder.begin(rows)
            encoder(**collate([sequences[row] for row in rows], loaded.tokenizer.pad_id))
            if recorder.layer != loaded.layer_count:
                raise ValueError(
                    f"model {loaded.name}: expected {loaded.layer_count} attention calls through "
                    f"transformers' attention interface, got {recorder.layer}"
                )
            progress(start + len(rows))
    return recorder.activations


@contextlib.contextmanager
def _observed(model: Any, recorder: _Recorder) -> Iterator[None]:
    """Selects the recording attention on this model only; restores its own afterwards."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    # Both are needed: with the attention alone, padded batches arrive without a mask.
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    if not model._supports_attention_backend:
        raise ValueError(
            f"model type {model.config.model_type}: expected attention through transformers' "
            "attention interface, got a model with its own"
        )
    before = model.config._attn_implementation
    model.set_attn_implementation(_NAME)
    token = _active.set(recorder)
    try:
        yield
    finally:
        _active.reset(token)
        model.set_attn_implementation(before)


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
    is complete. Errors: OSError.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
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
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, beside, metadata=metadata)
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)  # save_file leaves it readable to its owner only
        os.replace(beside, path)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return path.stat().st_size
