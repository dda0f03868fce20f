"""ea.Plan, hashes and the angle correction from Python."""

import json
import pickle

import numpy as np
import pytest

import elsa_attention as ea


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((2, 3, 12, 16)).astype(np.float32) for _ in range(3))


@pytest.fixture(scope="module")
def plan(tensors):
    inputs = [(layer, *tensors) for layer in (0, 1)]
    return ea.calibrate(inputs, p=2, hash_bits=32, seed=9, model_name="tiny")


def test_properties_say_how_it_was_learned(plan):
    assert (plan.p, plan.target, plan.rule, plan.remainder) == (2, 2, "paper", "none")
    assert (plan.model, plan.profile, plan.centring) == ("tiny", "paper", "off")
    assert (plan.layers, plan.heads, plan.d) == (2, (3, 3), 16)
    assert (plan.hash_kind, plan.hash_bits, plan.hash.seed) == ("kronecker3", 32, 9)
    assert (plan.dense_below, plan.bias_in_test, plan.centring_min_keys) == (0, False, 0)
    assert plan.theta_bias_rad == [[ea.theta_bias(ea.make_hash(16, 32, seed=9))]]
    assert plan.calibration[1][2]["queries"] == 24
    assert repr(plan) == (
        "Plan(p=2, remainder='none', profile='paper', model='tiny', layers=2, heads=3, "
        "hash=kronecker3/32, d=16)"
    )


def test_files_and_text_keep_everything(plan, tmp_path):
    path = tmp_path / "plan.json"
    for one in (plan, plan.replace(thresholds=[[None, 0.5, -0.25]] * 2, remainder="mean")):
        one.save(path)
        assert ea.Plan.load(path) == one
        assert path.read_text() == one.to_json()
        assert ea.Plan.from_json(one.to_json()) == one
        assert pickle.loads(pickle.dumps(one)) == one
    assert json.loads(path.read_text())["thresholds"][1] == [None, 0.5, -0.25]


def test_replace_copies(plan):
    other = plan.replace(
        remainder="mean", dense_below=5, always_keep_first=2, model="x", bias_in_test=True
    )
    assert (other.always_keep_first, other.always_keep_recent) == (2, 0)
    assert (other.remainder, other.dense_below, other.model) == ("mean", 5, "x")
    assert other.bias_in_test and other.thresholds == plan.thresholds
    assert plan.remainder == "none" and plan.model == "tiny" and plan != other
    assert plan.replace(remainder="mean").profile == "mean-row"
    assert plan == plan.replace() and plan != "plan"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (dict(p=3), "expected model, remainder, .* got p"),
        (dict(remainder="median"), "remainder"),
        (dict(dense_below=-1), "dense_below"),
        (dict(thresholds=[]), "thresholds"),
        (dict(thresholds=[[float("nan")]]), "thresholds"),
    ],
)
def test_changes_that_make_no_sense_are_refused(plan, changes, what):
    with pytest.raises(ValueError, match=what):
        plan.replace(**changes)


def test_bad_files_are_refused(plan, tmp_path):
    with pytest.raises(OSError, match="missing.json"):
        ea.Plan.load(tmp_path / "missing.json")
    path = tmp_path / "plan.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="plan.json"):
        ea.Plan.load(path)
    text = plan.to_json()
    with pytest.raises(ValueError, match="surprise"):
        ea.Plan.from_json(text.replace('"model"', '"surprise": 1, "model"', 1))
    with pytest.raises(OSError, match="absent"):
        plan.save(tmp_path / "absent" / "plan.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.json"]


def test_a_plan_of_a_newer_version_is_refused_as_unsupported(plan):
    content = json.loads(plan.to_json())
    assert content["elsa_plan"] == 1
    content["elsa_plan"] = 99
    with pytest.raises(RuntimeError, match="99"):
        ea.Plan.from_json(json.dumps(content))


@pytest.mark.parametrize("d", [8, 12, 32, 64])
@pytest.mark.parametrize("kind", ["kronecker3", "kronecker2", "dense", "gaussian"])
def test_hash_bits_are_signs_of_the_matrix_product(kind, d):
    drawn = ea.make_hash(d, 48, kind, seed=3)
    rows = np.random.default_rng(1).standard_normal((50, d)).astype(np.float32)
    batches = []
    for bits, factors in drawn.factors:
        matrix = np.ones((1, 1))
        for r, c, values in factors:
            matrix = np.kron(matrix, np.array(values).reshape(r, c))
        batches.append(matrix[:bits])
    projections = rows.astype(np.float64) @ np.concatenate(batches).T
    bits = drawn.sign_bits(rows)
    assert bits.shape == (50, 48) and bits.dtype == bool
    clear = np.abs(projections) > 1e-4  # float32 may round a tiny one to the other side
    assert clear.mean() > 0.99
    assert np.array_equal(bits[clear], projections[clear] >= 0)


@pytest.mark.parametrize("kind", ["kronecker3", "dense", "hadamard"])
def test_a_hash_takes_shorter_rows_as_rows_spread_among_zeros(kind):
    drawn = ea.make_hash(64, 64, kind, seed=3)
    rows = np.random.default_rng(1).standard_normal((50, 32)).astype(np.float32)
    # At even digit sums: three digits in base 4 for 4 x 4 x 4 columns, else the position itself.
    digits = (lambda p: p // 16 + p // 4 % 4 + p % 4) if kind == "kronecker3" else (lambda p: p)
    spread = np.zeros((50, 64), np.float32)
    spread[:, [p for p in range(64) if digits(p) % 2 == 0]] = rows
    assert np.array_equal(drawn.sign_bits(rows), drawn.sign_bits(spread))
    # The angle correction is another: 64 rows of half the length.
    assert ea.theta_bias(drawn, d=64) == ea.theta_bias(drawn) != ea.theta_bias(drawn, d=32)


def test_the_same_seed_gives_the_same_hash():
    assert ea.make_hash(32, 64).factors == ea.make_hash(32, 64).factors
    assert ea.make_hash(32, 64).factors != ea.make_hash(32, 64, seed=2).factors


def test_theta_bias_is_the_papers_number():
    for kind in ("kronecker3", "dense"):
        assert 0.124 <= ea.theta_bias(ea.make_hash(64, 64, kind)) <= 0.130
    assert 0.163 <= ea.theta_bias(ea.make_hash(64, 64, "gaussian")) <= 0.169


def test_hashes_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="hash kind"):
        ea.make_hash(8, 8, "md5")
    with pytest.raises(ValueError, match="expected 1 to 1024"):
        ea.make_hash(0)
    with pytest.raises(ValueError, match="vectors of 1 to 8 components, got 9"):
        ea.make_hash(8).sign_bits(np.zeros((1, 9), np.float32))
    with pytest.raises(ValueError, match="vectors of 1 to 8 components, got 9"):
        ea.theta_bias(ea.make_hash(8), d=9)


@pytest.mark.parametrize(
    "change",
    [
        dict(dense_below=1.5),
        dict(dense_below=10**30),
        dict(remainder=None),
        dict(model=3),
        dict(model="\ud800"),
        dict(bias_in_test="yes"),
        dict(thresholds=5),
        dict(thresholds=[["a"]]),
    ],
)
def test_replacing_with_nonsense_is_one_line_that_names_the_option(change):
    x = np.ones((1, 2, 3, 4), np.float32)
    plan = ea.calibrate([(0, x, x, x)], p=1)
    (name,) = change
    with pytest.raises(TypeError, match=f"^Plan.replace: {name}: expected [^\n]*$"):
        plan.replace(**change)


def test_only_text_is_a_plan():
    with pytest.raises(TypeError, match="^plan: expected text, got int$"):
        ea.Plan.from_json(3)
    with pytest.raises(ValueError, match="^plan"):
        ea.Plan.from_json("\ud800")
