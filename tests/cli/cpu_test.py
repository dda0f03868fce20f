"""The engine cpu on the command line: elsa attend --engine cpu, and elsa params --cpu."""

import json
import os

import pytest
from cli_support import assert_refused, make_plan, random_tensors, run, run_json, write_trace
from safetensors.numpy import load_file

# What a compiler must have been told for a target: nothing else proves which kernels ran.
PROOF = {
    "portable": set(),
    "neon": {"neon"},
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f"},
    "avx512_vpopcnt": {"avx512f", "avx512vpopcntdq"},
    "avx512_bf16": {"avx512f", "avx512bf16"},
    "avx512_fp16": {"avx512f", "avx512fp16"},
}
# The parts of a report that do not depend on the engine.
COUNTS = ("pairs", "kept", "queries", "empty_queries", "fallback_queries", "exact_queries")


def json_with(target, *args):
    """The object that a command prints with ELSA_TARGET set."""
    done = run(*args, "--json", env=os.environ | {"ELSA_TARGET": target})
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def running_targets():
    return [t["target"] for t in run_json("params", "--cpu")["targets"] if t["runs"]]


@pytest.fixture
def trace(tmp_path):
    tensors = random_tensors(heads=4, kv_heads=2, lengths=[24, 15])
    return write_trace(tmp_path / "t.safetensors", tensors)


@pytest.fixture
def plan(tmp_path, trace):
    return make_plan(tmp_path / "plan.json", trace)


@pytest.mark.parametrize("remainder", ["none", "mean"])
def test_every_target_keeps_the_references_keys_and_output(tmp_path, trace, plan, remainder):
    options = ["attend", trace, "--plan", plan, "--remainder", remainder, "-o"]
    expected = run_json(*options, tmp_path / "reference")
    for target in running_targets():
        report = json_with(
            target, *options, tmp_path / "cpu", "--engine", "cpu", "--select", "always"
        )
        assert report["engine"] == "cpu" and report["target"] == target
        for name in COUNTS:
            assert report[name] == expected[name], name
        for mine, theirs in zip(report["layers"], expected["layers"], strict=True):
            kept = [[head["kept"] for head in layer["heads"]] for layer in (mine, theirs)]
            assert kept[0] == kept[1]
        outputs = [load_file(tmp_path / name) for name in ("cpu", "reference")]
        for name, value in outputs[0].items():
            # Averages of values below 8, by binary32 arithmetic over at most 24 keys.
            assert abs(value - outputs[1][name]).max() < 2e-5
        assert report["output_rel_l2"] == pytest.approx(expected["output_rel_l2"], rel=1e-3)


def test_the_forced_target_ran_says_its_compiler(trace):
    for target in running_targets():
        report = json_with(target, "attend", trace, "--engine", "cpu")
        assert report["target"] == target
        compiled_for = set(report["compiled_for"])
        assert PROOF[target] <= compiled_for
        if target == "portable":
            assert not compiled_for & {"avx2", "avx512f"}
        if target == "avx2":
            assert "avx512f" not in compiled_for
        assert json_with(target, "params", "--cpu")["selected"] == target


def test_without_a_plan_it_is_exact(trace):
    report = run_json("attend", trace, "--engine", "cpu")
    assert (report["kept_fraction"], report["mass_kept"], report["digest"]) == (1, None, None)
    assert report["output_rel_l2"] < 1e-5
    assert report["paths"] == {"exact": 2 * 2 * 4}  # layers, sequences, heads
    assert report["precision"] == "float32"
    assert report["processor"]


def test_every_head_says_how_it_was_computed(trace, plan):
    always = run_json("attend", trace, "--plan", plan, "--engine", "cpu", "--select", "always")
    for layer in always["layers"]:
        assert layer["paths"] == {"selected": 2 * 4}
        assert [head["paths"] for head in layer["heads"]] == [{"selected": 2}] * 4
    either = run_json("attend", trace, "--plan", plan, "--engine", "cpu")
    assert sum(either["paths"].values()) == 2 * 2 * 4
    assert either["kept"] >= always["kept"]
    done = run("attend", trace, "--plan", plan, "--engine", "cpu", "--select", "always")
    last = done.stdout.splitlines()[-1]
    assert last == f"target {always['target']}, precision float32; heads selected 16"


@pytest.mark.parametrize("precision", ["float32", "16bit", "int8"])
def test_the_precision_is_the_callers_choice(trace, precision):
    report = run_json("attend", trace, "--engine", "cpu", "--precision", precision)
    assert report["precision"] == precision
    # Twice the stated errors of random normal rows: these keys differ in length, and scores are
    # larger.
    assert report["output_rel_l2"] < {"float32": 1e-5, "16bit": 1e-2, "int8": 5e-2}[precision]


def test_threads_never_change_the_output(tmp_path, trace, plan):
    outputs = []
    for threads in (1, 2, 5):
        path = tmp_path / "out"
        options = ["--plan", plan, "--engine", "cpu", "-o", path, "--threads", threads]
        run_json("attend", trace, *options)
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_params_lists_the_targets_and_marks_the_one_in_use():
    report = run_json("params", "--cpu")
    assert report["processor"]
    assert [t["target"] for t in report["targets"]] == list(PROOF)
    (selected,) = (t for t in report["targets"] if t["selected"])
    running = [t for t in report["targets"] if t["runs"]]
    assert selected["target"] == report["selected"]
    assert os.environ.get("ELSA_TARGET") or selected == running[-1]  # the most capable
    for target in running:
        assert PROOF[target["target"]] <= set(target["compiled_for"])
    lines = run("params", "--cpu").stdout.splitlines()
    assert lines[0] == f"Processor: {report['processor']}"
    (marked,) = (line for line in lines if " selected " in line)
    assert marked.split()[:3] == [selected["target"], "yes", "selected"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("sse9", ["ELSA_TARGET", "portable", "got sse9"]), ("neon", ["ELSA_TARGET", "got neon"])],
)
def test_a_target_that_does_not_run_is_refused(tmp_path, trace, monkeypatch, target, words):
    if target in running_targets():
        pytest.skip("it runs here")
    monkeypatch.setenv("ELSA_TARGET", target)
    assert_refused(tmp_path, "params", "--cpu", words=words)
    assert_refused(tmp_path, "attend", trace, "--engine", "cpu", words=words)
    run_json("attend", trace)  # other engines do not ask


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "cpu", "--precision", "double"], ["precision", "int8", "got double"]),
        (["--engine", "cpu", "--select", "never"], ["select", "auto or always", "got never"]),
        (["--engine", "cpu", "--formats", "recommended"], ["engine fixed or sim", "got cpu"]),
        (["--precision", "int8"], ["precision", "expected engine cpu", "got reference"]),
        (["--select", "always"], ["select", "expected engine cpu", "got reference"]),
    ],
)
def test_options_of_another_engine_are_refused(tmp_path, trace, options, words):
    assert_refused(tmp_path, "attend", trace, *options, words=words)


def test_the_random_control_is_the_references(tmp_path, trace, plan):
    options = ["--plan", plan, "--engine", "cpu", "--control", "random"]
    assert_refused(tmp_path, "attend", trace, *options, words=["control", "reference", "got cpu"])


def test_params_of_the_processor_takes_no_machine(tmp_path):
    options = ["--cpu", "--selectors-per-bank", 8]
    assert_refused(tmp_path, "params", *options, words=["cpu", "parameters of a machine"])
    assert_refused(tmp_path, "params", "--cpu", "--markdown", words=["--cpu"])
