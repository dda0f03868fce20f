"""elsa calibrate: its plan against the paper's rule in numpy, its options, repeatability."""

import json

import attention_oracle as oracle
import numpy as np
import pytest
from cli_support import make_plan, random_tensors, run, run_json, write_trace

LENGTHS = [24, 15]


@pytest.fixture
def trace(tmp_path):
    return write_trace(tmp_path / "trace.safetensors", random_tensors(lengths=LENGTHS))


@pytest.mark.parametrize("p", [0.5, 1, 4])
def test_thresholds_follow_the_papers_rule(tmp_path, trace, p):
    tensors = random_tensors(lengths=LENGTHS)
    plan = json.loads(make_plan(tmp_path / "plan.json", trace, options=["--p", p]).read_text())
    expected = [
        [oracle.threshold(tensors, layer, head, p=p, scale=0.25) for head in range(3)]
        for layer in range(2)
    ]
    # Norms are binary32 in the product: a relative 1e-6 each.
    np.testing.assert_allclose(plan["thresholds"], expected, rtol=1e-5)


def test_several_traces_count_like_one(tmp_path):
    tensors = random_tensors()
    halves = [
        write_trace(
            tmp_path / f"{half}.safetensors",
            {name: tensor[half : half + 1].copy() for name, tensor in tensors.items()},
        )
        for half in range(2)
    ]
    whole = write_trace(tmp_path / "whole.safetensors", tensors)
    two = json.loads(make_plan(tmp_path / "two.json", *halves).read_text())
    one = json.loads(make_plan(tmp_path / "one.json", whole).read_text())
    assert two == one


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path, trace):
    plans = [
        make_plan(tmp_path / f"{i}.json", trace, options=["--p", 1, "--seed", seed]).read_bytes()
        for i, seed in enumerate([7, 7, 8])
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


@pytest.mark.parametrize(
    "options",
    [
        ["--p", 1],
        ["--mass", 0.9],
        ["--mass", 0.9, "--rule", "gap"],
        ["--p", 2, "--theta-bias", "per-head"],
    ],
)
def test_threads_never_change_the_plan(tmp_path, trace, options):
    one, three = (
        make_plan(
            tmp_path / f"{threads}.json", trace, options=[*options, "--threads", threads]
        ).read_bytes()
        for threads in (1, 3)
    )
    assert one == three


@pytest.mark.parametrize(
    ("hash_kind", "low", "high"),
    [("kronecker3", 0.124, 0.130), ("dense", 0.124, 0.130), ("gaussian", 0.163, 0.169)],
)
def test_measured_theta_bias_is_the_papers(tmp_path, hash_kind, low, high):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(d=64, layers=1, heads=1))
    report = run_json(
        "calibrate", trace, "--p", 1, "--hash", hash_kind, "-o", tmp_path / "plan.json"
    )
    assert low < report["theta_bias_rad"] < high


def test_default_is_the_papers_method(tmp_path, trace):
    plan = json.loads(make_plan(tmp_path / "plan.json", trace).read_text())
    assert plan["profile"] == "paper"
    assert (plan["rule"], plan["target"], plan["remainder"]) == ("paper", {"p": 1}, "none")
    assert plan["centring"] == {"mode": "off", "min_keys": 0}
    assert (plan["bias_in_test"], plan["dense_below"]) == (False, 0)
    assert (plan["hash"]["kind"], plan["hash"]["d"], plan["hash"]["k"]) == ("kronecker3", 16, 64)
    assert plan["model"] == "toy"


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (["--p", 2, "--remainder", "mean"], {"remainder": "mean", "profile": "mean-row"}),
        (["--mass", 0.9], {"rule": "mass", "target": {"mass": 0.9}, "profile": "custom"}),
        (["--budget", 0.3], {"rule": "budget"}),
        (["--mass", 0.9, "--rule", "gap"], {"rule": "gap"}),
        (["--p", 1, "--centring", "on"], {"centring": {"mode": "on", "min_keys": 0}}),
        (
            ["--p", 1, "--centring", "by-length", "--centring-min-keys", 9],
            {"centring": {"mode": "by_length", "min_keys": 9}},
        ),
        (["--p", 1, "--theta-bias", 0.1], {"theta_bias_rad": 0.1}),
        (["--p", 1, "--bias-in-test"], {"bias_in_test": True}),
        (["--p", 1, "--dense-below", 20], {"dense_below": 20}),
        (
            ["--p", 1, "--keep-first", 4, "--keep-recent", 9],
            {"always_keep": {"first": 4, "recent": 9}},
        ),
    ],
)
def test_every_option_reaches_the_plan(tmp_path, trace, options, fields):
    plan = json.loads(make_plan(tmp_path / "plan.json", trace, options=options).read_text())
    assert {name: plan[name] for name in fields} == fields


@pytest.mark.parametrize("kind", ["kronecker3", "kronecker2", "dense", "hadamard", "gaussian"])
def test_hash_options_reach_the_plan(tmp_path, trace, kind):
    options = ["--p", 1, "--hash", kind, "--hash-bits", 40, "--seed", 2**63]
    plan = json.loads(make_plan(tmp_path / "plan.json", trace, options=options).read_text())
    hash_spec = plan["hash"]
    assert (hash_spec["kind"], hash_spec["k"], hash_spec["seed"]) == (kind, 40, str(2**63))
    assert [batch["bits"] for batch in hash_spec["batches"]] == [16, 16, 8]


def test_a_wider_hash_takes_the_vectors_as_spread_among_zeros(tmp_path):
    tensors = random_tensors(lengths=LENGTHS)
    for name in tensors:
        if name.endswith((".q", ".k")):  # quarters: sums of products are exact in any order
            tensors[name] = np.round(4 * tensors[name]) / 4
    trace = write_trace(tmp_path / "trace.safetensors", tensors)
    options = ["--p", 1, "--hash-d", 64, "--theta-bias", 0.15]
    plan = make_plan(tmp_path / "wide.json", trace, options=options)
    hash_spec = json.loads(plan.read_text())["hash"]
    assert (hash_spec["d"], hash_spec["k"]) == (64, 64)
    shapes = [[(f["rows"], f["cols"]) for f in b["factors"]] for b in hash_spec["batches"]]
    assert shapes == [[(4, 4)] * 3]  # the three factors of the paper, in one batch

    # 16 components lie where the sum of the digits in base 4 is a multiple of 4.
    positions = [p for p in range(64) if (p // 16 + p // 4 % 4 + p % 4) % 4 == 0]
    for name, tensor in tensors.items():
        if name.endswith((".q", ".k", ".v")):
            tensors[name] = np.zeros((*tensor.shape[:-1], 64), tensor.dtype)
            tensors[name][..., positions] = tensor
    wide = write_trace(tmp_path / "wide.safetensors", tensors, scale=0.25)
    expected = make_plan(tmp_path / "expected.json", wide, options=options[:2] + options[4:])
    assert plan.read_bytes() == expected.read_bytes()
    shown = [run_json("attend", t, "--plan", plan) for t in (trace, wide)]
    for key in ("kept_fraction", "mass_kept"):
        assert shown[0][key] == shown[1][key] < 1
    # Output and error are those of the real components; the others are 0 in both.
    assert shown[0]["output_rel_l2"] == pytest.approx(shown[1]["output_rel_l2"], rel=1e-12)


def test_per_head_theta_bias_is_one_number_per_head(tmp_path, trace):
    options = ["--p", 1, "--theta-bias", "per-head"]
    plan = json.loads(make_plan(tmp_path / "plan.json", trace, options=options).read_text())
    tensors = random_tensors(lengths=LENGTHS)
    projection = oracle.hash_matrix(plan["hash"])
    for layer in range(2):
        for head in range(3):
            errors = []
            for q, k, *_ in oracle.sequences(tensors, layer, head, scale=0.25, causal=False):
                norms = np.linalg.norm(q, axis=-1)[:, None] * np.linalg.norm(k, axis=-1)
                angle = np.arccos(np.clip(q @ k.T / norms, -1, 1))
                errors.append(
                    (np.pi / plan["hash"]["k"] * oracle.hamming(projection, q, k) - angle).ravel()
                )
            expected = np.quantile(np.concatenate(errors), 0.8, method="inverted_cdf")
            # Stored at a resolution of pi / 4096.
            assert abs(plan["theta_bias_rad"][layer][head] - expected) < np.pi / 4096 + 1e-6


@pytest.mark.parametrize(
    ("option", "key"), [("--mass", "mass_kept"), ("--budget", "kept_fraction")]
)
def test_share_targets_are_met_on_the_calibration_data(tmp_path, option, key):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(n_q=60))
    plan = make_plan(tmp_path / "plan.json", trace, options=[option, 0.6])
    # 14400 pairs over 12 heads and the bins of the thresholds: a point either way.
    assert run_json("attend", trace, "--plan", plan)[key] == pytest.approx(0.6, abs=0.02)


def test_expected_figures_are_those_of_attend_on_the_same_trace(tmp_path, trace):
    report = run_json("calibrate", trace, "--p", 1, "-o", tmp_path / "plan.json")
    seen = run_json("attend", trace, "--plan", tmp_path / "plan.json")
    assert report["kept_fraction"] == pytest.approx(seen["kept_fraction"], abs=0.01)
    assert report["mass_kept"] == pytest.approx(seen["mass_kept"], abs=0.01)
    assert report["queries"] == sum(LENGTHS)
    assert (report["layers"], report["heads"], report["k"]) == (2, 3, 64)
    assert report["traces"][0]["digest"] == seen["trace_digest"]


def test_text_names_the_plan_and_its_totals(tmp_path, trace):
    done = run("calibrate", trace, "--p", 1, "-o", tmp_path / "plan.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path / "plan.json") in done.stdout
    assert "profile paper" in done.stdout
    assert done.stdout.splitlines()[-1].split()[0] == "all"


def test_an_existing_plan_is_replaced(tmp_path, trace):
    plan = tmp_path / "plan.json"
    plan.write_text("old")
    make_plan(plan, trace)
    assert json.loads(plan.read_text())["elsa_plan"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.json", "trace.safetensors"]
