"""Traces for the accelerator's figures, from real models on real text.

What they are: MiniLM (d = 32) on texts of 512 tokens and on single documents, ALBERT (d = 32) on
reactions, and an input of BERT-large's size. The last is put together from MiniLM's heads, as no
model of that size can be had here: its scores are sums of two real heads' scores.
Not here: the search for p (quality.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

LONG = 512  # tokens of a long text: MiniLM's position table
LAYERS, HEADS = 24, 16  # of BERT-large
LONG_TEXTS = {"calibration": 8, "evaluation": 4}  # of the trace of real heads
LARGE_BATCH = {"calibration": 2, "evaluation": 1}
DOCUMENTS = {"calibration": 32, "evaluation": 25}
REACTIONS = {"calibration": 32, "evaluation": 32}


def long_texts(loaded: Any) -> dict[str, list[str]]:
    """Lee background documents joined to texts of at least LONG tokens; no document in two."""
    from elsa_attention.tasks import readers

    texts, open_text = [], ""
    for document in readers.lee_background():
        open_text = f"{open_text} {document}".strip()
        if len(loaded.tokenizer.encode(open_text, LONG)) == LONG:
            texts.append(open_text)
            open_text = ""
    return {"calibration": texts[1::2], "evaluation": texts[0::2]}


def load_long() -> Any:
    """MiniLM over its whole position table; its authors cut sentences at 256 tokens."""
    from elsa_attention.models import load

    return replace(load("minilm"), max_length=LONG)


def make(folder: Path, reactions: str | None) -> dict[str, dict[str, Path]]:
    """Writes all traces that are not there yet: {workload: {part: path}}."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("large", "few", "long", "documents", "reactions")
    parts = ("calibration", "evaluation")
    paths = {
        name: {part: folder / f"{name}-{part}.safetensors" for part in parts} for name in names
    }
    if not all(path.exists() for name in ("large", "long") for path in paths[name].values()):
        _long_traces(paths)
    for part, path in paths["few"].items():
        if not path.exists():
            _few(paths["large"][part], path)
    if not all(path.exists() for path in paths["documents"].values()):
        _task_traces("minilm", "doc-similarity", None, DOCUMENTS, paths["documents"])
    if not all(path.exists() for path in paths["reactions"].values()):
        _task_traces("rxn-albert", "masked-token", reactions, REACTIONS, paths["reactions"])
    return paths


def _long_traces(paths: dict[str, dict[str, Path]]) -> None:
    loaded = load_long()
    texts = long_texts(loaded)
    for part in ("calibration", "evaluation"):
        sequences = [loaded.tokenizer.encode(text, LONG) for text in texts[part]]
        _capture(loaded, sequences[: LONG_TEXTS[part]], paths["long"][part])
        _large(loaded, sequences[LONG_TEXTS[part] :], LARGE_BATCH[part], paths["large"][part])


def _task_traces(
    model: str, name: str, data: str | None, counts: dict[str, int], paths: dict[str, Path]
) -> None:
    from elsa_attention import tasks
    from elsa_attention.models import load
    from elsa_attention.tasks.base import spread

    loaded, task = load(model), tasks.make(name, data)
    for part, path in paths.items():
        sequences = getattr(task, f"{part}_sequences")(loaded)
        _capture(loaded, spread(sequences, counts[part]), path)


def _capture(loaded: Any, sequences: Sequence[list[int]], path: Path) -> None:
    from elsa_attention.models import activations

    activations.write_trace(
        path,
        activations.record(loaded, sequences, dtype="f16", batch_size=8),
        model=loaded.name,
        source_digest=loaded.digest,
        tokens=[loaded.tokenizer.tokens(ids) for ids in sequences],
    )


def _large(loaded: Any, sequences: Sequence[list[int]], batch: int, path: Path) -> None:
    """BERT-large's 24 x 16 heads of d = 64, n = 512, `batch` times, on other texts each.

    Head pair j of all pairs is heads 2 j and 2 j + 1 of a layer of MiniLM, side by side; the first
    36 pairs see one text, the next 36 another. So each of the 384 is one thing in both parts.
    """
    import torch
    from safetensors.torch import save_file

    from elsa_attention.models import activations

    pairs = loaded.layer_count * loaded.head_count // 2
    texts = -(-LAYERS * HEADS // pairs)
    if len(sequences) < batch * texts:
        raise ValueError(f"{path}: expected {batch * texts} texts, got {len(sequences)}")
    seen = activations.record(loaded, sequences[: batch * texts], dtype="f16", batch_size=8)
    tensors = {"lengths": torch.full((batch,), LONG, dtype=torch.int64)}
    for name in "qkv":
        # [layer, batch, text, head, n, d] -> [batch, text, layer, pair, n, 2 d]
        heads = torch.stack(getattr(seen, name)).unflatten(1, (batch, texts))
        paired = heads.permute(1, 2, 0, 3, 4, 5).unflatten(3, (-1, 2)).transpose(4, 5).flatten(5)
        all_pairs = paired.flatten(1, 3)[:, : LAYERS * HEADS].unflatten(1, (LAYERS, HEADS))
        for layer in range(LAYERS):
            tensors[f"layer.{layer}.{name}"] = all_pairs[:, layer].contiguous()
    metadata = {
        "elsa.trace": "1",
        "elsa.model": "minilm-pairs",
        "elsa.scale": repr(1 / 8),
        "elsa.causal": "false",
        "elsa.source_digest": loaded.digest,
        "tokens": json.dumps([[""] * LONG] * batch),
    }
    save_file(tensors, path, metadata=metadata)


def _few(source: Path, path: Path) -> None:
    """One head of every other layer, another one in each: for the many runs of a sweep."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, "pt") as trace:
        metadata = trace.metadata()
        tensors = {"lengths": trace.get_tensor("lengths")}
        for layer in range(LAYERS // 2):
            head = 5 * layer % HEADS
            for name in "qkv":
                tensor = trace.get_tensor(f"layer.{2 * layer}.{name}")
                tensors[f"layer.{layer}.{name}"] = tensor[:, head : head + 1].contiguous()
    save_file(tensors, path, metadata=metadata)
