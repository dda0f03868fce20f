"""elsa attend: what it reports and writes against fp64 numpy, on every shape a trace may have."""

import json

import attention_oracle as oracle
import numpy as np
import pytest
from cli_support import make_plan, random_tensors, run, run_json, write_trace
from safetensors.numpy import load_file

SCALE = 0.25
TRACES = {
    "plain": ({}, {}),
    "padded": ({"lengths": [24, 9]}, {}),
    "empty sequence": ({"lengths": [24, 0]}, {}),
    "causal": ({}, {"causal": True}),
    "grouped heads": ({"heads": 4, "kv_heads": 2}, {}),
    "cross": ({"n_q": 10, "n_k": 31, "lengths": [31, 17]}, {}),
    "bias": ({"bias": True}, {}),
    "half precision": ({"dtype": "float16"}, {}),
    "one token": ({"n_q": 1}, {}),
}
PLANS = {
    "paper": ["--p", 1],
    "mean row": ["--p", 3, "--remainder", "mean"],
    "dense, long hash": ["--p", 2, "--hash", "dense", "--hash-bits", 50],
}


@pytest.mark.parametrize("plan_name", PLANS)
@pytest.mark.parametrize("trace_name", TRACES)
def test_figures_and_output_equal_numpy(tmp_path, trace_name, plan_name):
    shape, options = TRACES[trace_name]
    tensors = random_tensors(**shape)
    trace = write_trace(tmp_path / "t.safetensors", tensors, **options)
    plan_path = make_plan(tmp_path / "plan.json", trace, options=PLANS[plan_name])
    plan = json.loads(plan_path.read_text())
    output = tmp_path / "out.safetensors"
    report = run_json("attend", trace, "--plan", plan_path, "-o", output)
    written = load_file(output)

    everything = oracle.Head()
    for layer, layer_report in enumerate(report["layers"]):
        assert layer_report["layer"] == layer
        for head, row in enumerate(layer_report["heads"]):
            expected, outputs = oracle.attend(
                plan, tensors, layer, head, scale=SCALE, causal=options.get("causal", False)
            )
            everything += expected
            assert (row["head"], row["pairs"], row["kept"], row["queries"]) == (
                head,
                expected.pairs,
                expected.kept,
                expected.queries,
            )
            assert_figures(row, expected)
            for b, rows in enumerate(outputs):
                full = written[f"layer.{layer}.output"][b, head]
                # Rounded to binary32 once: half a unit in the last place of values below 8.
                np.testing.assert_allclose(full[: len(rows)], rows.reshape(-1, 16), atol=5e-7)
                assert not full[len(rows) :].any()  # padding
    assert (report["pairs"], report["kept"]) == (everything.pairs, everything.kept)
    assert_figures(report, everything)


def assert_figures(row: dict, expected: oracle.Head) -> None:
    kept, mass, error = expected.figures
    assert row["kept_fraction"] == pytest.approx(kept, rel=1e-12)
    assert row["mass_kept"] == pytest.approx(mass, rel=1e-9)
    # The output is binary32: the error carries its rounding, 6e-8 of the row.
    assert row["output_rel_l2"] == pytest.approx(error, abs=1e-6)


@pytest.fixture
def trace(tmp_path):
    return write_trace(tmp_path / "t.safetensors", random_tensors(lengths=[24, 15]))


def test_p_zero_is_exact(tmp_path, trace):
    plan = make_plan(tmp_path / "plan.json", trace, options=["--p", 0, "--remainder", "mean"])
    report = run_json("attend", trace, "--plan", plan)
    assert report["kept_fraction"] == 1
    assert report["mass_kept"] == 1
    assert report["output_rel_l2"] < 1e-6
    assert report["exact_queries"] == report["queries"]


def test_without_a_plan_is_exact(trace):
    report = run_json("attend", trace)
    assert (report["plan"], report["profile"]) == (None, "exact")
    assert report["kept_fraction"] == 1
    assert report["output_rel_l2"] < 1e-6


def test_kept_fraction_falls_as_p_grows(tmp_path, trace):
    kept = []
    for p in (0, 0.5, 1, 2, 4, 8):
        plan = make_plan(tmp_path / "plan.json", trace, options=["--p", p])
        kept.append(run_json("attend", trace, "--plan", plan)["kept_fraction"])
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[2] > kept[-1]


def test_threads_never_change_the_output(tmp_path, trace):
    plan = make_plan(tmp_path / "plan.json", trace)
    outputs, reports = [], []
    for threads in (1, 3):
        path = tmp_path / "out.safetensors"
        report = run_json("attend", trace, "--plan", plan, "-o", path, "--threads", threads)
        outputs.append(path.read_bytes())
        reports.append({k: v for k, v in report.items() if k not in ("time_s", "layers")})
    assert outputs[0] == outputs[1]
    assert reports[0] == reports[1]


def test_remainder_replaces_the_plans(tmp_path, trace):
    none = make_plan(tmp_path / "none.json", trace, options=["--p", 4])
    mean = make_plan(tmp_path / "mean.json", trace, options=["--p", 4, "--remainder", "mean"])
    asked = run_json("attend", trace, "--plan", none, "--remainder", "mean")
    planned = run_json("attend", trace, "--plan", mean)
    assert asked["profile"] == "mean-row"
    assert asked["output_rel_l2"] == planned["output_rel_l2"]
    assert asked["output_rel_l2"] < run_json("attend", trace, "--plan", none)["output_rel_l2"]


def test_random_control_keeps_as_many_keys_and_less_mass(tmp_path, trace):
    plan = make_plan(tmp_path / "plan.json", trace)
    chosen = run_json("attend", trace, "--plan", plan)
    control = run_json("attend", trace, "--plan", plan, "--control", "random", "--seed", 5)
    assert (control["control"], control["seed"]) == ("random", 5)
    assert control["kept"] == chosen["kept"]
    assert control["mass_kept"] < chosen["mass_kept"] - 0.2
    again = run_json("attend", trace, "--plan", plan, "--control", "random", "--seed", 5)
    other = run_json("attend", trace, "--plan", plan, "--control", "random", "--seed", 6)
    assert again["mass_kept"] == control["mass_kept"] != other["mass_kept"]


def test_queries_without_keys_or_candidates_are_counted(tmp_path):
    tensors = random_tensors(layers=1, n_q=3, n_k=24, lengths=[24, 0])
    trace = write_trace(tmp_path / "t.safetensors", tensors)
    # Angles half a turn too large: no estimate comes near a threshold.
    plan = make_plan(tmp_path / "plan.json", trace, options=["--p", 20, "--theta-bias", -3])
    report = run_json("attend", trace, "--plan", plan)
    assert report["queries"] == 2 * 3 * 3
    assert report["empty_queries"] == 3 * 3  # of the sequence without keys
    assert report["fallback_queries"] == report["kept"] == 3 * 3


def test_infinite_negative_bias_masks_a_pair(tmp_path):
    tensors = random_tensors(layers=1, bias=True)
    tensors["layer.0.bias"][:, :, :, 5:] = -np.inf
    trace = write_trace(tmp_path / "t.safetensors", tensors)
    report = run_json("attend", trace)
    assert report["pairs"] == 2 * 3 * 24 * 5


def test_values_in_the_padding_do_not_matter(tmp_path):
    tensors = random_tensors(lengths=[24, 9])
    clean = write_trace(tmp_path / "clean.safetensors", tensors)
    plan = make_plan(tmp_path / "plan.json", clean)
    for name in tensors:
        if name != "lengths":
            tensors[name][1, :, 9:] = np.nan
    dirty = write_trace(tmp_path / "dirty.safetensors", tensors)
    assert make_plan(tmp_path / "dirty.json", dirty).read_bytes() == plan.read_bytes()
    for name, path in (("a", clean), ("b", dirty)):
        run_json("attend", path, "--plan", plan, "-o", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_text_ends_with_the_total_of_the_json(tmp_path, trace):
    plan = make_plan(tmp_path / "plan.json", trace)
    report = run_json("attend", trace, "--plan", plan)
    done = run("attend", trace, "--plan", plan)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    total = next(row for row in rows if row[:2] == ["all", "all"])
    assert total[2] == f"{report['kept_fraction']:.4f}"
    assert total[4] == f"{report['output_rel_l2']:.6f}"
    assert len([row for row in rows if row and row[0] == "1"]) == 3 + 1  # heads of layer 1, and all
