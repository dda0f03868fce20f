"""elsa-capture: what it records, the trace it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

import tiny_models
from elsa_attention import models
from elsa_attention.commands.capture import main
from elsa_attention.inputs import Inputs
from elsa_attention.models import activations

TEXT = (
    "the cat sat on a mat\nthe dog\none two three four five six seven eight nine ten\na cat saw\n"
)

# The module that projects the attention's output: what it is given is that output.
OUTPUT_PROJECTIONS = {
    "bert": lambda m: [layer.attention.output.dense for layer in m.encoder.layer],
    "bert-mlm": lambda m: [layer.attention.output.dense for layer in m.bert.encoder.layer],
    "albert": lambda m: [m.encoder.albert_layer_groups[0].albert_layers[0].attention.dense],
    "gpt2": lambda m: [block.attn.c_proj for block in m.h],
    "llama": lambda m: [layer.self_attn.o_proj for layer in m.layers],
}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def read_trace(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def attention_outputs(model, projections, ids):
    """Output of each attention call on one unpadded sequence, by the model's eager attention."""
    import torch

    seen = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].numpy()))
        for module in projections
    ]
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        model.base_model(input_ids=torch.tensor([ids]))
    model.set_attn_implementation(before)
    for hook in hooks:
        hook.remove()
    return seen


def softmax_attention(q, k, v, scale, causal):
    """Exact attention of one sequence in fp64. Shapes: q [heads, n, d] -> [n, heads * d]."""
    repeat = q.shape[0] // k.shape[0]
    k, v = (np.repeat(x.astype(np.float64), repeat, axis=0) for x in (k, v))
    scores = scale * q.astype(np.float64) @ k.transpose(0, 2, 1)
    if causal:
        scores = np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    output = weights / weights.sum(axis=-1, keepdims=True) @ v
    return output.transpose(1, 0, 2).reshape(q.shape[1], -1)


@pytest.mark.parametrize("kind", sorted(OUTPUT_PROJECTIONS))
def test_softmax_over_the_trace_equals_the_models_attention(tmp_path, text, kind):
    folder, out = tiny_models.save(tmp_path / "m", kind), tmp_path / "t.safetensors"
    assert main(["--model", str(folder), "--text", text, "-o", str(out), "--batch-size", "3"]) == 0
    tensors, metadata = read_trace(out)
    loaded = models.load(folder)
    causal = kind in ("gpt2", "llama")
    assert metadata["elsa.causal"] == ("true" if causal else "false")
    assert float(metadata["elsa.scale"]) == pytest.approx(8**-0.5, rel=1e-7)
    projections = OUTPUT_PROJECTIONS[kind](loaded.model)
    for row, line in enumerate(TEXT.splitlines()):
        ids = loaded.tokenizer.encode(line, 32)
        assert tensors["lengths"][row] == len(ids)
        expected = attention_outputs(loaded.model, projections, ids)
        assert len(expected) == 3
        for layer in range(3):
            q, k, v = (tensors[f"layer.{layer}.{name}"][row, :, : len(ids)] for name in "qkv")
            got = softmax_attention(q, k, v, float(metadata["elsa.scale"]), causal)
            assert np.abs(got - expected[layer]).max() < 1e-4 * np.abs(expected[layer]).max()


def test_trace_follows_the_contract(tmp_path, text, capsys):
    folder, out = tiny_models.save(tmp_path / "llama-folder", "llama"), tmp_path / "t.safetensors"
    assert main(["--model", str(folder), "--text", text, "-o", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert printed.err == ""
    tensors, metadata = read_trace(out)
    names = {f"layer.{layer}.{name}" for layer in range(3) for name in "qkv"}
    assert set(tensors) == names | {"lengths"}
    assert tensors["lengths"].dtype == np.int64
    assert tensors["lengths"].tolist() == [6, 2, 10, 3]
    for name in names:
        heads = 4 if name.endswith("q") else 2  # grouped queries: keys and values unrepeated
        assert tensors[name].shape == (4, heads, 10, 8)
        assert tensors[name].dtype == np.float32
        for row, length in enumerate(tensors["lengths"]):
            assert not tensors[name][row, :, length:].any()
            assert tensors[name][row, :, :length].any(axis=-1).all()
    assert set(metadata) == {
        *("elsa.trace", "elsa.model", "elsa.scale", "elsa.causal", "elsa.source_digest", "tokens")
    }
    assert (metadata["elsa.trace"], metadata["elsa.model"]) == ("1", "llama-folder")
    assert metadata["elsa.source_digest"] == models.load(folder).digest
    assert json.loads(metadata["tokens"]) == [line.split() for line in TEXT.splitlines()]
    assert summary == {
        "path": str(out),
        "model": "llama-folder",
        "source_digest": metadata["elsa.source_digest"],
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "sequences": 4,
        "tokens": 21,
        "longest": 10,
        "scale": float(metadata["elsa.scale"]),
        "causal": True,
        "dtype": "f32",
        "size_bytes": out.stat().st_size,
    }


def test_batch_size_changes_only_rounding(tmp_path, text):
    folder = tiny_models.save(tmp_path / "m", "bert")
    traces = []
    for size in ("1", "4"):
        out = tmp_path / f"{size}.safetensors"
        arguments = ["--model", str(folder), "--text", text, "-o", str(out), "--batch-size", size]
        assert main(arguments) == 0
        traces.append(read_trace(out))
    assert traces[0][1] == traces[1][1]
    for name, tensor in traces[0][0].items():
        assert np.allclose(tensor, traces[1][0][name], rtol=0, atol=1e-4), name


@pytest.mark.parametrize(("dtype", "name", "bits"), [("f16", "F16", 10), ("bf16", "BF16", 7)])
def test_smaller_types_round_the_f32_trace(tmp_path, text, dtype, name, bits):
    import torch
    from safetensors.torch import load_file

    folder, full = tiny_models.save(tmp_path / "m", "bert"), tmp_path / "f32.safetensors"
    half = tmp_path / "half.safetensors"
    assert main(["--model", str(folder), "--text", text, "-o", str(full)]) == 0
    assert main(["--model", str(folder), "--text", text, "-o", str(half), "--dtype", dtype]) == 0
    with safe_open(half, "pt") as file:
        assert file.get_slice("layer.0.q").get_dtype() == name
    expected, got = load_file(full)["layer.1.k"], load_file(half)["layer.1.k"].float()
    assert (got - expected).abs().max() <= 2.0 ** -(bits + 1) * expected.abs().max() * 2
    assert not torch.equal(got, expected)


def test_limit_and_length_bound_the_trace(tmp_path, text):
    folder, out = tiny_models.save(tmp_path / "m", "bert"), tmp_path / "t.safetensors"
    arguments = ["--model", str(folder), "--text", text, "-o", str(out)]
    assert main([*arguments, "--max-length", "4", "--limit", "2"]) == 0
    tokens = json.loads(read_trace(out)[1]["tokens"])
    assert tokens == [["[CLS]", "the", "cat", "[SEP]"], ["[CLS]", "one", "two", "[SEP]"]]


def test_task_data_is_captured(tmp_path, capsys):
    out = tmp_path / "t.safetensors"
    arguments = ["--model", "rxn-albert", "--task", "masked-token", "-o", str(out), "--json"]
    assert main([*arguments, "--limit", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 12  # one module serves all of ALBERT's
    tokens = json.loads(read_trace(out)[1]["tokens"])
    assert len(tokens) == 3
    assert all(row[0] == "[CLS]" and "[MASK]" in row for row in tokens)
    assert main([*arguments, "--limit", "3", "--split", "evaluation"]) == 0
    assert json.loads(read_trace(out)[1]["tokens"]) != tokens


def test_reactions_are_the_text_of_rxn_albert(tmp_path):
    text, out = tmp_path / "r.csv", tmp_path / "t.safetensors"
    text.write_text("id,rxn\n1,[CH3:1][CH2:2][OH:3]>>[CH3:1][CH3:2]\n")
    assert main(["--model", "rxn-albert", "--text", str(text), "-o", str(out)]) == 0
    tokens = json.loads(read_trace(out)[1]["tokens"])
    assert tokens == [["[CLS]", "C", "C", "O", ">>", "C", "C", "[SEP]"]]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("mpnet", {}, "expected attention through transformers' attention interface"),
        ("mistral", {}, "expected a mask of padding and causality only, got another"),
    ],
)
def test_models_a_trace_cannot_express_are_refused(tmp_path, text, capsys, kind, changes, message):
    folder, out = tiny_models.save(tmp_path / "m", kind, **changes), tmp_path / "t.safetensors"
    assert main(["--model", str(folder), "--text", text, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_window_wider_than_the_text_is_no_window(tmp_path, text):
    folder = tiny_models.save(tmp_path / "m", "mistral", sliding_window=32)
    assert main(["--model", str(folder), "--text", text, "-o", str(tmp_path / "t")]) == 0


def test_a_dropped_padding_mask_is_noticed():
    import torch

    recorder = activations._Recorder([2, 4], torch.float32)
    recorder.rows = [0, 1]
    q = np.ones((2, 1, 4, 2), np.float32)
    with pytest.raises(ValueError, match="layer 0: expected a mask of padding"):
        recorder.see(0, Inputs(q, q, q, scale=1.0, causal=False))


def test_values_beyond_the_type_are_refused(tmp_path, text, capsys):
    from safetensors.torch import load_file, save_file

    folder, out = tiny_models.save(tmp_path / "m", "bert"), tmp_path / "t.safetensors"
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.2.attention.self.key.weight"] *= 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    arguments = ["--model", str(folder), "--text", text, "-o", str(out)]
    assert main([*arguments, "--dtype", "f16"]) == 2
    assert "layer 2: k of sequence 1: expected values finite in float16" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "--dtype", "bf16"]) == 0


def test_the_models_own_attention_comes_back(tmp_path):
    loaded = models.load(tiny_models.save(tmp_path / "m", "bert"))
    before = loaded.model.config._attn_implementation
    activations.record(loaded, [[2, 5, 3]])
    assert loaded.model.config._attn_implementation == before
    with pytest.raises(IndexError):  # an id outside the vocabulary
        activations.record(loaded, [[2, 9999, 3]])
    assert loaded.model.config._attn_implementation == before


BAD_INPUT = [
    ([], "arguments are required: --model, -o/--output"),
    (["--model", "{m}", "-o", "{o}"], "one of the arguments --text --task is required"),
    (["--model", "nowhere", "--text", "{t}", "-o", "{o}"], "model 'nowhere': expected a folder or"),
    (["--model", "{m}", "--text", "{m}/none.txt", "-o", "{o}"], "none.txt: No such file"),
    (["--model", "{m}", "--text", "{m}", "-o", "{o}"], "Is a directory"),
    (["--model", "{m}", "--text", "{empty}", "-o", "{o}"], "expected one document per line, got"),
    (["--model", "{m}", "--text", "{bytes}", "-o", "{o}"], "bytes.txt:1: expected UTF-8 text"),
    (["--model", "{m}", "--text", "{t}", "-o", "{m}"], "expected a file to write, got a folder"),
    (["--model", "{m}", "--text", "{t}", "-o", "{pipe}"], "got a device or pipe"),
    (["--model", "{m}", "--text", "{t}", "-o", "{m}/no/t"], "expected an existing folder"),
    (["--model", "{m}", "--text", "{t}", "-o", "{t}/t"], "expected an existing folder"),
    (["--model", "{m}", "--text", "{t}", "-o", "{o}", "--max-length", "33"], "expected at most 32"),
    (
        ["--model", "{m}", "--text", "{t}", "-o", "{o}", "--limit", "0"],
        "expected an integer from 1",
    ),
    (["--model", "{m}", "--text", "{t}", "-o", "{o}", "--max-length", "2"], "expected 3 or more"),
    (["--model", "{m}", "--text", "{t}", "-o", "{t}"], "expected an output other than the inputs"),
    (
        ["--model", "{m}", "--text", "{t}", "-o", "{m}/model.safetensors"],
        "expected an output other than the inputs",
    ),
    (
        ["--model", "{m}", "--text", "{t}", "-o", "{o}", "--split", "evaluation"],
        "--split: expected it with --task, got --text",
    ),
    (["--model", "{odd}", "--text", "{t}", "-o", "{o}"], "architectures: expected a list of names"),
    (["--model", "{no_layers}", "--text", "{t}", "-o", "{o}"], "num_hidden_layers: expected 1 or"),
    (["--model", "{m}", "--text", "{t}", "-o", "{o}", "--dtype", "f8"], "invalid choice: 'f8'"),
    (["--model", "{m}", "--text", "{t}", "-o", "{o}", "--data", "{t}"], "--data: expected it with"),
    (["--model", "{m}", "--task", "none", "-o", "{o}"], "task: expected one of masked-token"),
    (["--model", "{m}", "--task", "fidelity", "-o", "{o}"], "expected a data file, got none"),
    (["--model", "{m}", "--task", "masked-token", "-o", "{o}"], "expected a masked language model"),
    (["--model", "{no_weights}", "--text", "{t}", "-o", "{o}"], "expected model weights"),
    (["--model", "{no_words}", "--text", "{t}", "-o", "{o}"], "expected tokenizer files"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    (root / "t.txt").write_text(TEXT)
    (root / "empty.txt").write_text("\n\n")
    (root / "bytes.txt").write_bytes(b"\xff\n")
    (root / "out").mkdir()
    os.mkfifo(root / "pipe")
    no_weights = tiny_models.save(root / "no_weights", "bert")
    (no_weights / "model.safetensors").unlink()
    no_words = tiny_models.save(root / "no_words", "bert")
    (no_words / "tokenizer.json").unlink()
    odd = tiny_models.save(root / "odd", "bert")
    no_layers = tiny_models.save(root / "no_layers", "bert")
    for folder, change in ((odd, {"architectures": [3]}), (no_layers, {"num_hidden_layers": 0})):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
    return {
        "odd": odd,
        "no_layers": no_layers,
        "m": tiny_models.save(root / "m", "bert"),
        "t": root / "t.txt",
        "empty": root / "empty.txt",
        "bytes": root / "bytes.txt",
        "o": root / "out" / "t.safetensors",
        "pipe": root / "pipe",
        "no_weights": no_weights,
        "no_words": no_words,
    }


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_2(places, capsys, arguments, message):
    assert main([a.format(**places) for a in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("elsa-capture: ") and printed.err.count("\n") == 1
    assert message in printed.err
    assert not list(places["o"].parent.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_write_leaves_the_old_file_and_no_other(places, monkeypatch, capsys, error):
    import safetensors.torch

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    places["o"].write_text("old")
    try:
        arguments = ["--model", places["m"], "--text", places["t"], "-o", places["o"]]
        code = main([str(a) for a in arguments])
        assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
        assert capsys.readouterr().err.count("\n") == 1
        assert places["o"].read_text() == "old"
        assert list(places["o"].parent.iterdir()) == [places["o"]]
    finally:
        places["o"].unlink()


def test_termination_while_writing_leaves_no_file(places, monkeypatch):
    import safetensors.torch

    def terminate(tensors, path, metadata):
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(safetensors.torch, "save_file", terminate)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ["--model", places["m"], "--text", places["t"], "-o", places["o"]]
    assert main([str(a) for a in arguments]) == 128 + signal.SIGTERM
    assert not list(places["o"].parent.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_is_not_possible_here_is_one_line_too(places, monkeypatch, capsys):
    from elsa_attention.models import activations

    def fail(*arguments, **options):
        raise RuntimeError("elsa: expected this,\ngot that")

    monkeypatch.setattr(activations, "record", fail)
    arguments = ["--model", places["m"], "--text", places["t"], "-o", places["o"]]
    assert main([str(a) for a in arguments]) == 2
    assert capsys.readouterr().err == "elsa-capture: elsa: expected this, got that\n"


def test_a_link_is_followed(places, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(places["o"])
    arguments = ["--model", places["m"], "--text", places["t"], "-o", link]
    assert main([str(a) for a in arguments]) == 0
    assert link.is_symlink() and places["o"].is_file()
    places["o"].unlink()


def test_the_trace_has_the_users_usual_permissions(places):
    before = os.umask(0o027)
    try:
        arguments = ["--model", places["m"], "--text", places["t"], "-o", places["o"]]
        assert main([str(a) for a in arguments]) == 0
    finally:
        os.umask(before)
    mode = places["o"].stat().st_mode & 0o777
    places["o"].unlink()
    assert mode == 0o640


def test_help_has_an_example_and_needs_no_torch():
    code = (
        "import sys; from elsa_attention.commands.capture import main; code = main(['--help']); "
        "print('torch' in sys.modules, code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "elsa capture --model minilm --task doc-similarity -o minilm.safetensors" in done.stdout
    assert done.stdout.endswith("False 0\n")
