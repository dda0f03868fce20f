"""Bad input: exit 2, one clear line on stderr, no output file and no temporary file left."""

import json
import struct
import subprocess

import numpy as np
import pytest
from cli_support import (
    BINARY,
    ROOT,
    assert_refused,
    make_plan,
    metadata,
    random_tensors,
    run,
    run_json,
    write_raw,
    write_trace,
)
from safetensors.numpy import save_file

# Every command that reads a trace, with an output where it writes one.
COMMANDS = {
    "calibrate": lambda trace, plan, out: ["calibrate", trace, "--p", 1, "-o", out],
    "attend": lambda trace, plan, out: ["attend", trace, "--plan", plan, "-o", out],
    "inspect": lambda trace, plan, out: [
        *("inspect", trace, "--plan", plan, "--layer", 0, "--head", 0, "--query", 0)
    ],
}


BAD_TENSORS = {}


def damage(change):
    """Registers a change to a good trace's tensors; it returns the words of the complaint."""
    BAD_TENSORS[change.__name__] = change
    return change


@damage
def missing_tensor(tensors):
    del tensors["layer.1.v"]
    return ["layer.1.v", "none"]


@damage
def integer_tensor(tensors):
    tensors["layer.0.k"] = tensors["layer.0.k"].astype(np.int32)
    return ["layer.0.k", "dtype", "F32, F16 or BF16", "I32"]


@damage
def double_tensor(tensors):
    tensors["layer.0.q"] = tensors["layer.0.q"].astype(np.float64)
    return ["layer.0.q", "dtype", "F32, F16 or BF16", "F64"]


@damage
def wrong_rank(tensors):
    tensors["layer.0.q"] = tensors["layer.0.q"][0].copy()
    return ["layer.0.q", "rank", "expected 4", "got 3"]


@damage
def heads_that_do_not_divide(tensors):
    for name in ("layer.0.k", "layer.0.v"):
        tensors[name] = tensors[name][:, :2].copy()
    return ["layer.0.k", "heads", "3", "got 2"]


@damage
def heads_of_v_unlike_k(tensors):
    tensors["layer.0.v"] = tensors["layer.0.v"][:, :1].copy()
    return ["layer.0.v", "heads", "expected 3", "got 1"]


@damage
def other_batch(tensors):
    tensors["layer.1.k"] = tensors["layer.1.k"][:1].copy()
    return ["layer.1.k", "batch", "expected 2", "got 1"]


@damage
def other_d(tensors):
    tensors["layer.0.k"] = tensors["layer.0.k"][..., :8].copy()
    return ["layer.0.k", "d", "expected 16", "got 8"]


@damage
def no_tokens_at_all(tensors):
    for name in tensors:
        tensors[name] = tensors[name][:, :, :0].copy()
    return ["layer.0.q", "shape", "0"]


@damage
def no_components(tensors):
    for name in tensors:
        tensors[name] = tensors[name][..., :0].copy()
    return ["layer.0.q", "shape", "0"]


@damage
def nan(tensors):
    tensors["layer.1.q"][1, 2, 3, 4] = np.nan
    return ["layer.1.q", "[1, 2, 3, 4]", "finite", "nan"]


@damage
def infinity(tensors):
    tensors["layer.0.v"][0, 1, 23, 15] = -np.inf
    return ["layer.0.v", "[0, 1, 23, 15]", "finite", "inf"]


@damage
def nan_in_bias(tensors):
    tensors["layer.0.bias"] = np.zeros((1, 3, 24, 24), np.float32)
    tensors["layer.0.bias"][0, 0, 1, 2] = np.nan
    return ["layer.0.bias", "[0, 0, 1, 2]", "nan"]


@damage
def length_beyond_n(tensors):
    tensors["lengths"] = np.array([24, 25])
    return ["lengths", "0 to 24", "got 25"]


@damage
def unknown_tensor(tensors):
    tensors["layer.0.o"] = tensors["layer.0.q"]
    return ["layer.0.o"]


@pytest.fixture
def good(tmp_path):
    return write_trace(tmp_path / "good.safetensors", random_tensors())


@pytest.fixture
def plan(tmp_path, good):
    return make_plan(tmp_path / "plan.json", good)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors_are_refused(tmp_path, plan, command, case):
    tensors = random_tensors()
    words = BAD_TENSORS[case](tensors)
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, metadata=metadata(16))
    args = COMMANDS[command](bad, plan, tmp_path / "out")
    assert_refused(tmp_path, *args, words=[bad, *words])


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
BAD_FILES = {
    "empty": (b"", ["8 bytes"]),
    "seven bytes": (b"1234567", ["8 bytes"]),
    "header beyond the file": (struct.pack("<Q", 50) + b"{}", ["header"]),
    "header over 100 MB": (struct.pack("<Q", 2**62) + b"{}", ["header"]),
    "not JSON": (struct.pack("<Q", 4) + b"oops", ["header"]),
    "not an object": (struct.pack("<Q", 2) + b"[]", ["header"]),
    "overlap": ({"a": F32, "b": {**F32, "data_offsets": [2, 6]}}, ["b"]),
    "hole": ({"a": F32, "b": {**F32, "data_offsets": [5, 9]}}, ["b"]),
    "span unlike shape": ({"a": {**F32, "shape": [2]}}, ["a"]),
    "unknown dtype": ({"a": {**F32, "dtype": "F31"}}, ["a", "F31"]),
    "offsets beyond the file": ({"a": {**F32, "data_offsets": [0, 400], "shape": [100]}}, ["a"]),
    "overflow": ({"a": {**F32, "shape": [2**62, 2**62]}}, ["a"]),
    "no trace": ({"a": F32}, ["elsa.trace"]),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused(tmp_path, plan, command, case):
    content, words = BAD_FILES[case]
    bad = tmp_path / "bad.safetensors"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        end = max(entry["data_offsets"][1] for entry in content.values())
        write_raw(bad, content, bytes(min(end, 16)))
    assert_refused(tmp_path, *COMMANDS[command](bad, plan, tmp_path / "out"), words=[bad, *words])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_truncated_trace_is_refused(tmp_path, good, plan, command):
    bad = tmp_path / "bad.safetensors"
    content = good.read_bytes()
    for keep in (7, 100, len(content) // 2, len(content) - 1):
        bad.write_bytes(content[:keep])
        assert_refused(tmp_path, *COMMANDS[command](bad, plan, tmp_path / "out"), words=[bad])
    bad.write_bytes(content + b"\0")
    assert_refused(tmp_path, *COMMANDS[command](bad, plan, tmp_path / "out"), words=[bad])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_trace_of_another_version_is_refused(tmp_path, plan, command):
    bad = write_trace(tmp_path / "bad.safetensors", random_tensors(), version="2")
    assert_refused(
        tmp_path,
        *COMMANDS[command](bad, plan, tmp_path / "out"),
        words=[bad, "version", "expected 1", "2"],
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_trace_that_is_not_there_is_refused(tmp_path, plan, command):
    missing = tmp_path / "missing.safetensors"
    assert_refused(
        tmp_path,
        *COMMANDS[command](missing, plan, tmp_path / "out"),
        words=[missing, "No such file"],
    )


def test_one_token_is_fine(tmp_path):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(n_q=1))
    plan = make_plan(tmp_path / "plan.json", trace)
    assert run_json("attend", trace, "--plan", plan)["kept_fraction"] == 1


def test_a_hash_refuses_d_above_1024(tmp_path):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(n_q=2, d=1025))
    for kind in ("kronecker3", "kronecker2", "dense", "hadamard", "gaussian"):
        args = ["calibrate", trace, "--p", 1, "--hash", kind, "-o", tmp_path / "out"]
        assert_refused(tmp_path, *args, words=["hash: d", "1 to 1024", "got 1025"])


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ({}, {"model": "other"}, ["model", "'other'", "'toy'"]),
        ({"layers": 1}, {}, ["layers", "expected 1", "got 2"]),
        ({"layers": 3}, {}, ["layers", "expected 3", "got 2"]),
        ({"heads": 4}, {}, ["layer 0: heads", "expected 4", "got 3"]),
        ({"d": 32}, {}, ["layer 0: d", "expected 32 or more", "got 16"]),
    ],
)
@pytest.mark.parametrize("command", ["attend", "inspect"])
def test_a_plan_of_another_model_or_shape_is_refused(
    tmp_path, plan, command, shape, options, words
):
    other = write_trace(tmp_path / "other.safetensors", random_tensors(**shape), **options)
    args = COMMANDS[command](other, plan, tmp_path / "out")
    assert_refused(tmp_path, *args, words=[plan, other, *words])


BAD_PLANS = {
    "another version": (lambda p: p | {"elsa_plan": 2}, ["elsa_plan", "expected 1", "got 2"]),
    "unknown key": (lambda p: p | {"extra": 1}, ["extra"]),
    "missing key": (lambda p: {k: v for k, v in p.items() if k != "hash"}, ["hash"]),
    "wrong profile": (lambda p: p | {"profile": "custom"}, ["profile", "paper"]),
    "wrong type": (lambda p: p | {"dense_below": "3"}, ["dense_below"]),
    "out of range": (lambda p: p | {"target": {"p": -1}}, ["target", "got -1"]),
    "heads of one layer only": (
        lambda p: p | {"thresholds": [p["thresholds"][0], p["thresholds"][1][:1]]},
        ["calibration[1]"],
    ),
}


@pytest.mark.parametrize("case", BAD_PLANS)
@pytest.mark.parametrize("command", ["attend", "inspect"])
def test_a_damaged_plan_is_refused(tmp_path, good, plan, command, case):
    change, words = BAD_PLANS[case]
    plan.write_text(json.dumps(change(json.loads(plan.read_text()))))
    args = COMMANDS[command](good, plan, tmp_path / "out")
    assert_refused(tmp_path, *args, words=[plan, *words])


@pytest.mark.parametrize("command", ["attend", "inspect"])
def test_a_truncated_plan_is_refused(tmp_path, good, plan, command):
    plan.write_text(plan.read_text()[:-20])
    args = COMMANDS[command](good, plan, tmp_path / "out")
    assert_refused(tmp_path, *args, words=[plan])


@pytest.mark.parametrize("command", ["calibrate", "attend"])
def test_an_unwritable_output_is_refused(tmp_path, good, plan, command):
    for out, word in (
        (tmp_path / "no" / "such" / "folder", "No such file"),
        (tmp_path, "directory"),
        (good / "below-a-file", "Not a directory"),
        ("/dev/null", "device"),
    ):
        assert_refused(tmp_path, *COMMANDS[command](good, plan, out), words=[out, word])


@pytest.mark.parametrize("command", ["calibrate", "attend"])
def test_an_unwritable_output_is_refused_before_the_values_are_read(tmp_path, plan, command):
    tensors = random_tensors()
    tensors["layer.0.q"][0, 0, 0, 0] = np.nan
    bad = write_trace(tmp_path / "bad.safetensors", tensors)
    out = tmp_path / "no" / "folder"
    assert_refused(tmp_path, *COMMANDS[command](bad, plan, out), words=[out])


@pytest.mark.parametrize("command", ["calibrate", "attend"])
def test_an_input_is_never_overwritten(tmp_path, good, plan, command):
    link = tmp_path / "link"
    link.symlink_to(good)
    targets = [good, link] + ([plan] if command == "attend" else [])
    for out in targets:
        assert_refused(tmp_path, *COMMANDS[command](good, plan, out), words=[out, "input"])


def test_attend_never_overwrites_its_configuration(tmp_path, good):
    config = tmp_path / "machine.toml"
    config.write_text((ROOT / "configs/paper.toml").read_text())
    args = ["attend", good, "--engine", "fixed", "--config", config, "-o", config]
    assert_refused(tmp_path, *args, words=[config, "input"])


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ({}, {"model": "other"}, ["model", "'toy'", "'other'"]),
        ({}, {"scale": 0.5}, ["scale", "0.25", "0.5"]),
        ({}, {"causal": True}, ["causal", "expected false", "got true"]),
        ({"layers": 3}, {}, ["layers", "expected 2", "got 3"]),
        ({"heads": 4}, {}, ["layer 0: heads", "expected 3", "got 4"]),
        ({"d": 8}, {"scale": 0.25}, ["layer 0: d", "expected 16", "got 8"]),
    ],
)
def test_traces_that_do_not_belong_together_are_refused(tmp_path, good, shape, options, words):
    other = write_trace(tmp_path / "other.safetensors", random_tensors(**shape), **options)
    args = ["calibrate", good, other, "--p", 1, "-o", tmp_path / "out"]
    assert_refused(tmp_path, *args, words=[other, good, *words])


def test_centring_refuses_a_causal_trace(tmp_path):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(), causal=True)
    args = ["calibrate", trace, "--p", 1, "--centring", "on", "-o", tmp_path / "out"]
    assert_refused(tmp_path, *args, words=["centring", "causal"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["--p", "--mass", "--budget", "got 0"]),
        (["--p", 1, "--mass", 0.9], ["exactly one", "got 2"]),
        (["--p", -1], ["--p", ">= 0", "got -1"]),
        (["--p", "nan"], ["--p"]),
        (["--p", "one"], ["--p", "one"]),
        (["--mass", 1.5], ["--mass", "at most 1", "got 1.5"]),
        (["--budget", 0], ["--budget", "above 0"]),
        (["--p", 1, "--rule", "gap"], ["--rule gap", "--mass", "got --p"]),
        (["--p", 1, "--rule", "best"], ["rule", "gap", "best"]),
        (["--p", 1, "--hash", "md5"], ["hash", "kronecker3", "md5"]),
        (["--p", 1, "--hash-bits", 0], ["1 to 4096", "got 0"]),
        (["--p", 1, "--hash-bits", 4097], ["1 to 4096", "got 4097"]),
        (["--p", 1, "--hash-d", 15], ["--hash-d: expected 16 or more as in", "got 15"]),
        (["--p", 1, "--hash-d", 1025], ["1 to 1024", "got 1025"]),
        (["--p", 1, "--hash-d", "wide"], ["--hash-d", "wide"]),
        (["--p", 1, "--remainder", "max"], ["remainder", "none, mean", "max"]),
        (["--p", 1, "--centring", "by-length"], ["--centring-min-keys"]),
        (["--p", 1, "--centring-min-keys", 4], ["--centring by-length"]),
        (["--p", 1, "--theta-bias", "often"], ["--theta-bias", "per-head", "often"]),
        (["--p", 1, "--theta-bias", 4], ["--theta-bias", "4"]),
        (["--p", 1, "--threads", -1], ["--threads", "-1"]),
        (["--p", 1, "--no-such-option"], ["--no-such-option", "--help"]),
    ],
)
def test_bad_options_of_calibrate_are_refused(tmp_path, good, options, words):
    args = ["calibrate", good, *options, "-o", tmp_path / "out"]
    assert_refused(tmp_path, *args, words=words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--formats", "recommended"], ["expected engine fixed or sim", "got reference"]),
        (["--engine", "gpu"], ["engine", "expected reference", "got gpu"]),
        (["--remainder", "mean"], ["--remainder", "--plan"]),
        (["--control", "random"], ["--control", "--plan"]),
        (["--seed", 1], ["--seed", "--control"]),
    ],
)
def test_bad_options_of_attend_are_refused(tmp_path, good, options, words):
    assert_refused(tmp_path, "attend", good, *options, "-o", tmp_path / "out", words=words)


def test_a_name_with_a_line_break_cannot_break_the_line(tmp_path):
    assert_refused(tmp_path, "attend", tmp_path / "a\nb\x1b[2J", words=["a\\x0ab\\x1b[2J"])


def test_missing_arguments_are_usage_errors(tmp_path):
    assert_refused(tmp_path, words=["required", "elsa --help"])
    assert_refused(tmp_path, "attend", words=["trace", "elsa attend --help"])
    assert_refused(tmp_path, "calibrate", "x", "--p", 1, words=["--output", "required"])


def test_a_full_standard_output_is_an_error(good):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(BINARY), "attend", str(good)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert "standard output" in done.stderr


@pytest.mark.parametrize("command", ["calibrate", "attend", "inspect", "params"])
def test_help_exits_0_with_an_example(command):
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"$ elsa {command} " in done.stdout
