"""elsa simulate: cycles, causes, energy and area to the contract; machines beside; bad input."""

import csv
import json

import numpy as np
import pytest
from cli_support import (
    ROOT,
    assert_refused,
    make_plan,
    random_tensors,
    run,
    run_json,
    write_trace,
)

# A machine for the tests' d = 16: 16 = 4 x 2 x 2, 128 multiplications for 16 hash bits.
MACHINE = ["--n", 64, "--d", 16, "--k", 16, "--hash-multipliers", 64, "--division-multipliers", 8]
P1 = ["--p", 1, "--hash-bits", 16]


@pytest.fixture
def trace(tmp_path):
    return write_trace(tmp_path / "t.safetensors", random_tensors(lengths=[24, 9]))


@pytest.fixture
def plan(tmp_path, trace):
    return make_plan(tmp_path / "plan.json", trace, options=P1)


def simulate(trace, *options, plan=None):
    return run_json("simulate", trace, *MACHINE, *(["--plan", plan] if plan else []), *options)


def test_phases_and_causes_sum_to_the_cycles(trace, plan):
    report = simulate(trace, plan=plan)
    rows = [report, *report["layers"], *(h for layer in report["layers"] for h in layer["heads"])]
    for row in rows:
        phases = ("command_cycles", "copy_cycles", "preprocess_cycles", "execute_cycles")
        assert sum(row[name] for name in phases) == row["cycles"]
        assert sum(row["stall_cycles"].values()) == row["cycles"]
    for name in ("cycles", "candidates", "pairs", "operations"):
        assert sum(layer[name] for layer in report["layers"]) == report[name]
    for module in report["modules"].values():
        assert sum(module["cycles"].values()) == report["cycles"] * module["instances"]
    assert report["operations"] == 2 * 2 * 3
    assert report["digest"] == run_json("params", *MACHINE)["digest"]


def test_base_takes_its_closed_form(trace):
    # Banks of ceil(n / 4) keys, one per cycle and query, and the fill: vector 2, attention
    # 1 + 1 + (1 + 2) + 3 + 4 - 1, two groups of 8 components - 1, division 3 + 2 + 2 + 1; two
    # cycles of command.
    def cycles(n):
        return n * -(-n // 4) + 2 + 11 + 1 + 8 + 2

    report = simulate(trace)
    assert report["machine"] == "base"
    assert report["cycles"] == 6 * (cycles(24) + cycles(9))
    assert report["preprocess_cycles"] == 0
    assert report["kept_fraction"] == 1


def test_makespan_shares_the_heads_among_the_accelerators(trace):
    one = simulate(trace, "--accelerators", 1)
    assert one["makespan_cycles"] == one["cycles"]
    assert one["utilisation"] == 1
    six = simulate(trace, "--accelerators", 6)
    # Each layer has six jobs: the longest decides.
    longest = 24 * 6 + 24
    assert six["makespan_cycles"] == 2 * longest
    assert six["utilisation"] == pytest.approx(one["cycles"] / (6 * 2 * longest))


def test_energy_and_area_name_where_they_come_from(trace, plan):
    report = simulate(trace, plan=plan)
    for figure in ("energy_pj", "area_mm2"):
        parts = report[figure]["modules"]
        assert sum(part["total"] for part in parts.values()) == pytest.approx(
            report[figure]["total"]
        )
        assert all("Table I" in part["provenance"] for part in parts.values())
    energy = report["energy_pj"]
    assert sum(energy["groups"].values()) == pytest.approx(energy["total"])
    layers = sum(layer["energy_pj"] for layer in report["layers"])
    assert layers == pytest.approx(energy["total"])
    power = run_json("simulate", trace)["peak_power_mw"]
    assert power["total"] == pytest.approx(1494.22, abs=0.01)
    assert power["all_accelerators"] == pytest.approx(17930, abs=1)


def test_scaled_technology_is_smaller_and_says_so(trace):
    full, scaled = simulate(trace), simulate(trace, "--node-nm", 7)
    assert scaled["area_mm2"]["total"] < full["area_mm2"]["total"] / 5
    assert scaled["technology"] != full["technology"]
    assert scaled["cycles"] == full["cycles"]


def test_technology_from_a_file(tmp_path, trace):
    file = tmp_path / "tech.toml"
    text = (ROOT / "data/tech/paper-40nm.toml").read_text()
    file.write_text(text)
    assert simulate(trace, "--technology", file) == simulate(trace)
    file.write_text(text.replace("area_mm2 = 0.202", "area_mm2 = -1"))
    line = text[: text.index("area_mm2 = 0.202")].count("\n") + 1
    done = run("simulate", trace, "--technology", file)
    assert done.returncode == 2
    assert f"tech.toml:{line}: hash_unit.area_mm2: expected" in done.stderr


def test_values_are_those_of_the_engine_sim(trace, plan):
    report = simulate(trace, "--values", plan=plan)
    config = trace.parent / "machine.toml"
    lines = (ROOT / "configs/paper.toml").read_text()
    for name, value in zip(
        ("n", "d", "k", "hash_multipliers", "division_multipliers"),
        (64, 16, 16, 64, 8),
        strict=True,
    ):
        old = next(row for row in lines.splitlines() if row.startswith(f"{name} = "))
        lines = lines.replace(old, f"{name} = {value}", 1)
    config.write_text(lines)
    attend = run_json("attend", trace, "--plan", plan, "--engine", "sim", "--config", config)
    assert report["output_rel_l2"] == attend["output_rel_l2"]
    assert report["kept_fraction"] == attend["kept_fraction"]
    assert report["digest"] == attend["digest"]
    assert attend["mass_kept"] is None
    # Fewer bits, other candidates: near the reference, not equal.
    reference = run_json("attend", trace, "--plan", plan)
    assert abs(report["output_rel_l2"] - reference["output_rel_l2"]) < 0.15
    assert "output_rel_l2" not in simulate(trace, plan=plan)


def test_p_zero_skips_preprocessing(tmp_path, trace):
    plan = make_plan(tmp_path / "p0.json", trace, options=["--p", 0])
    report = simulate(trace, plan=plan)
    assert report["preprocess_cycles"] == 0
    assert report["cycles"] == simulate(trace)["cycles"]


def test_mean_row_costs_one_candidate_a_query_at_most(tmp_path, trace):
    plan = make_plan(tmp_path / "mean.json", trace, options=[*P1, "--remainder", "mean"])
    report = simulate(trace, "--remainder", "mean", plan=plan)
    counters = report["counters"]
    assert 0 < counters["mean_rows"] <= counters["queries"]
    without = simulate(trace, "--plan-remainder", "none", plan=plan)
    assert without["counters"]["mean_rows"] == 0
    assert without["candidates"] == report["candidates"]
    assert "mean_row" in report["area_mm2"]["modules"]
    assert "mean_row" not in without["area_mm2"]["modules"]


def test_machines_stand_in_the_order_asked_for(trace, plan):
    report = simulate(trace, "--machine", "ideal,elsa,base,a3", plan=plan)
    rows = report["machines"]
    assert [row["machine"] for row in rows] == ["ideal", "elsa", "base", "a3"]
    assert rows[0]["cycles"] == pytest.approx(6 * (24**2 + 9**2) * 2 * 16 / (4 * 32 + 8))
    assert rows[1]["cycles"] == report["cycles"]
    assert rows[1]["cycles_over_ideal"] == pytest.approx(report["cycles"] / rows[0]["cycles"])
    everything = simulate(trace, "--machine", "all", plan=plan)["machines"]
    names = [row["machine"] for row in everything]
    assert len(set(names)) == len(names) > 8
    assert all(row["notes"] for row in everything)
    with_mass = simulate(trace, "--machine", "top-k,ideal", "--values", plan=plan)["machines"]
    assert with_mass[1]["mass_kept"] == 1
    assert 0 < with_mass[0]["mass_kept"] < 1
    assert everything[0]["mass_kept"] is None
    elsa, base = simulate(trace, "--machine", "elsa,base", "--values", plan=plan)["machines"]
    exact = run_json("attend", trace, "--plan", plan)["mass_kept"]
    assert abs(elsa["mass_kept"] - exact) < 0.05  # other candidates by rounding, not other weights
    assert base["mass_kept"] is None  # values are computed for the first machine only


def test_advice_is_what_the_larger_machine_then_does(trace, plan):
    advice = simulate(trace, plan=plan)["advice"]
    assert advice["heads"] == 12  # all of them
    trial = next(t for t in advice["trials"] if t["parameter"] == "machine.selectors_per_bank")
    larger = simulate(trace, "--selectors-per-bank", trial["to"], plan=plan)
    assert larger["cycles"] == trial["cycles"]
    best = advice["trials"][0]
    assert best["cycles"] == min(t["cycles"] for t in advice["trials"])
    assert best["parameter"].split(".")[1] in advice["sentence"]
    assert simulate(trace, "--no-advice", plan=plan)["advice"] is None


def test_csv_has_a_line_per_layer_and_head(tmp_path, trace, plan):
    path = tmp_path / "heads.csv"
    report = simulate(trace, "--csv", path, plan=plan)
    rows = list(csv.DictReader(path.open()))
    assert [(row["layer"], row["head"]) for row in rows] == [
        (str(layer), str(head)) for layer in range(2) for head in range(3)
    ]
    assert sum(int(row["cycles"]) for row in rows) == report["cycles"]
    for row in rows:
        causes = [int(v) for k, v in row.items() if k.endswith("_cycles")]
        phases = int(row["preprocess_cycles"]) + int(row["execute_cycles"])
        assert sum(causes) - phases == int(row["cycles"])


def test_results_do_not_depend_on_threads(trace, plan):
    reports = [simulate(trace, "--values", "--threads", n, plan=plan) for n in (1, 3)]
    assert reports[0] == reports[1]


def test_text_names_what_bounds_the_workload(trace, plan):
    done = run("simulate", trace, *MACHINE, "--plan", plan, "--machine", "elsa,ideal")
    assert (done.returncode, done.stderr) == (0, "")
    report = simulate(trace, plan=plan)
    assert report["advice"]["sentence"] in done.stdout
    assert "cycles by cause:" in done.stdout
    assert "ideal" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--banks", 3], ["machine.banks", "expected a divisor of machine.n = 64", "got 3"]),
        (["--hash-multipliers", 100], ["machine.hash_multipliers", "divisor of the"]),
        (["--hash-multipliers", 0], ["machine.hash_multipliers", "integer 1 to 65536", "got 0"]),
        (["--n", "99999999999"], ["machine.n", "got"]),
        (["--n", 16, "--selectors-per-bank", 4], ["at most 16 rows", "got 24"]),
        (["--machine", "gpu"], ["machine: expected one of all, elsa", "got 'gpu'"]),
        (["--machine", "elsa"], ["machine: elsa: expected --plan"]),
        (["--timeline", "x", "--timeline-window", "9:3"], ["timeline-window", "got '9:3'"]),
        (["--timeline", "x", "--timeline-format", "vcd"], ["expected", "perfetto", "kanata"]),
        (["--timeline", "x", "--timeline-head", 9], ["timeline: head: expected 0 to 2, got 9"]),
        (["--csv", ""], ["output: expected a file name"]),
        (["--node-nm", 3], ["got 3"]),
        (["--formats", "best"], ["formats", "paper-literal, recommended"]),
        (["--technology", "none.toml"], ["none.toml"]),
    ],
)
def test_bad_options_are_refused(tmp_path, trace, options, words):
    machine = dict(zip(MACHINE[::2], MACHINE[1::2], strict=True))
    machine |= dict(zip(options[::2], options[1::2], strict=True))
    merged = [word for pair in machine.items() for word in pair]
    assert_refused(tmp_path, "simulate", trace, *merged, words=words)


@pytest.mark.parametrize(
    ("learned", "words"),
    [
        (["--hash-bits", 32], ["hash.k", "expected 16 as the machine's", "got 32"]),
        (["--hash-bits", 16, "--hash", "dense"], ["hash.kind", "kronecker3", "dense"]),
        (["--hash-bits", 16, "--hash-d", 32], ["hash.d", "expected 16", "got 32"]),
        (["--hash-bits", 16, "--remainder", "mean"], ["remainder", "machine.remainder"]),
    ],
)
def test_plans_of_another_machine_are_refused(tmp_path, trace, learned, words):
    plan = make_plan(tmp_path / "other.json", trace, options=["--p", 1, *learned])
    assert_refused(tmp_path, "simulate", trace, *MACHINE, "--plan", plan, words=words)


@pytest.mark.parametrize("output", ["--csv", "--timeline"])
def test_no_output_replaces_an_input(tmp_path, trace, output):
    config = tmp_path / "machine.toml"
    config.write_text((ROOT / "configs/tiny.toml").read_text())
    technology = tmp_path / "technology.toml"
    technology.write_text((ROOT / "data/tech/paper-40nm.toml").read_text())
    for name, path in (("--config", config), ("--technology", technology)):
        words = ["an output other than the inputs", path]
        assert_refused(tmp_path, "simulate", trace, name, path, output, path, words=words)


def test_two_outputs_in_one_file_are_refused(tmp_path, trace):
    outputs = ["--csv", tmp_path / "x", "--timeline", f"{tmp_path}/./x"]
    assert_refused(tmp_path, "simulate", trace, *MACHINE, *outputs, words=["same file twice"])


def test_a_run_that_fails_in_a_later_layer_leaves_no_timeline(tmp_path):
    tensors = random_tensors(d=8, n_q=12)
    tensors["layer.1.bias"] = random_tensors(d=8, n_q=12, bias=True)["layer.1.bias"]
    trace = write_trace(tmp_path / "bias.safetensors", tensors)
    outputs = ["--timeline", tmp_path / "x", "--csv", tmp_path / "y"]
    tiny = ["--config", ROOT / "configs/tiny.toml"]
    assert_refused(tmp_path, "simulate", trace, *tiny, *outputs, words=["bias"])


def test_a_partial_technology_is_refused(tmp_path, trace):
    partial = ROOT / "data/tech/open-nangate45.toml"
    words = ["open-nangate45: hash_unit", "a partial table"]
    assert_refused(tmp_path, "simulate", trace, *MACHINE, "--technology", partial, words=words)


def test_machines_may_stand_before_the_trace(trace):
    report = run_json("simulate", "--machine", "base,ideal", trace, *MACHINE, "--machine", "cpu")
    assert [machine["machine"] for machine in report["machines"]] == ["base", "ideal", "cpu"]


def test_vectors_longer_than_the_machines_are_refused(tmp_path):
    trace = write_trace(tmp_path / "wide.safetensors", random_tensors(d=80))
    assert_refused(tmp_path, "simulate", trace, words=["80", "64"])


def test_masks_that_the_machine_does_not_know_are_refused(tmp_path):
    trace = write_trace(tmp_path / "bias.safetensors", random_tensors(bias=True))
    assert_refused(tmp_path, "simulate", trace, *MACHINE, words=["bias", "on the machine"])


def test_causal_and_cross_attention_run(tmp_path):
    causal = write_trace(tmp_path / "c.safetensors", random_tensors(), causal=True)
    report = simulate(causal, plan=make_plan(tmp_path / "c.json", causal, options=P1))
    assert report["pairs"] == 2 * 2 * 3 * 24 * 25 // 2
    cross = write_trace(tmp_path / "x.safetensors", random_tensors(n_q=10, n_k=31))
    assert simulate(cross)["pairs"] == 2 * 2 * 3 * 310


def test_empty_sequences_take_a_command_only(tmp_path):
    trace = write_trace(tmp_path / "e.safetensors", random_tensors(lengths=[0, 0]))
    report = simulate(trace, "--machine", "base,ideal")
    assert report["cycles"] == 2 * 2 * 2 * 3
    assert report["candidates"] == 0
    assert json.dumps(report, allow_nan=False)


def test_copying_matrices_takes_their_bytes(trace):
    copied = simulate(trace, "--transfer", "copy", "--bytes-per-cycle", 1)
    bits = 9 * 16
    expected = sum(4 * -(-n * bits // 8) for n in (24, 9)) * 6
    assert copied["copy_cycles"] == expected
    assert np.isclose(copied["counters"]["copied_bytes"], expected)
