"""elsa inspect: every number it shows for one query against numpy, tokens, and the sentence."""

import json

import attention_oracle as oracle
import numpy as np
import pytest
from cli_support import assert_refused, make_plan, random_tensors, run, run_json, write_trace

LENGTHS = [24, 15]
TOKENS = [[f"word{i}" for i in range(24)], [f"wort{i}" for i in range(15)]]
AT = ["--layer", 1, "--head", 2, "--batch", 1, "--query", 6]


@pytest.fixture
def trace(tmp_path):
    tensors = random_tensors(lengths=LENGTHS)
    return write_trace(tmp_path / "t.safetensors", tensors, tokens=TOKENS)


@pytest.fixture
def plan(tmp_path, trace):
    return make_plan(tmp_path / "plan.json", trace)


def test_every_number_equals_numpy(trace, plan):
    report = run_json("inspect", trace, "--plan", plan, *AT, "--top", 0, "--sort", "key")
    plan_json = json.loads(plan.read_text())
    tensors = random_tensors(lengths=LENGTHS)
    q, k, _, scores, _, _ = list(oracle.sequences(tensors, 1, 2, scale=0.25, causal=False))[1]
    norms = np.linalg.norm(k, axis=-1)
    distance = oracle.hamming(oracle.hash_matrix(plan_json["hash"]), q, k)[6]
    similarity = oracle.similarity(plan_json, 1, 2, q, k)[6]
    cut_off = plan_json["thresholds"][1][2] * norms.max()
    weights = oracle.softmax(scores[6])

    keys = report["keys"]
    assert [key["key"] for key in keys] == list(range(15))
    assert [key["token"] for key in keys] == TOKENS[1]
    assert [key["distance_bits"] for key in keys] == distance.tolist()
    assert [key["kept"] for key in keys] == (similarity > cut_off).tolist()
    for name, expected in {
        "score": scores[6],
        "weight": weights,
        "key_norm": norms,
        "angle_rad": np.maximum(
            np.pi / plan_json["hash"]["k"] * distance - plan_json["theta_bias_rad"], 0
        ),
        "similarity": similarity,
        "true_similarity": q[6] @ k.T / np.linalg.norm(q[6]),
    }.items():
        # Norms and similarities are binary32.
        np.testing.assert_allclose([key[name] for key in keys], expected, rtol=1e-5, atol=1e-6)
    assert report["cut_off"] == pytest.approx(cut_off, rel=1e-5)
    assert report["mass_kept"] == pytest.approx(weights[similarity > cut_off].sum())
    assert (report["token"], report["pairs"]) == ("wort6", 15)


def test_without_key_explains_the_heaviest_dropped_and_kept_key(trace, plan):
    report = run_json("inspect", trace, "--plan", plan, *AT, "--top", 0)
    weights = [key["weight"] for key in report["keys"]]
    assert weights == sorted(weights, reverse=True)
    dropped = next(key for key in report["keys"] if not key["kept"])
    kept = next(key for key in report["keys"] if key["kept"])
    assert [(why["key"], why["kept"]) for why in report["why"]] == [
        (dropped["key"], False),
        (kept["key"], True),
    ]


def test_sentence_names_the_token_and_the_numbers(trace, plan):
    report = run_json("inspect", trace, "--plan", plan, *AT, "--key", 3, "--top", 1)
    key = next(key for key in report["keys"] if key["key"] == 3)
    (why,) = report["why"]
    assert "key 3 'wort3'" in why["sentence"]
    assert ("is kept" if key["kept"] else "is dropped") in why["sentence"]
    assert f"{key['distance_bits']} bits" in why["sentence"]
    assert f"{key['similarity']:.3f}" in why["sentence"]
    assert f"{report['cut_off']:.3f}" in why["sentence"]


def test_text_shows_the_rows_of_the_json_and_its_sentences(trace, plan):
    report = run_json("inspect", trace, "--plan", plan, *AT, "--top", 5)
    done = run("inspect", trace, "--plan", plan, *AT, "--top", 5)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("query 6 'wort6' of sequence 1, layer 1, head 2: keeps")
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["key"])
    assert (
        lines[head].split()
        == "key token score weight distance angle similarity cut-off decision".split()
    )
    for line, key in zip(lines[head + 1 : head + 6], report["keys"], strict=True):
        cells = line.split()
        assert cells[:2] == [str(key["key"]), key["token"]]
        assert cells[-1] == ("kept" if key["kept"] else "dropped")
    assert lines[-2:] == [why["sentence"] for why in report["why"]]


def test_kept_keys_are_those_of_attend(trace, plan):
    kept = sum(
        run_json("inspect", trace, "--plan", plan, "--layer", 0, "--head", 0, "--query", i)["kept"]
        for i in range(24)
    ) + sum(
        run_json(
            "inspect", trace, "--plan", plan, "--layer", 0, "--head", 0, "--query", i, "--batch", 1
        )["kept"]
        for i in range(15)
    )
    assert run_json("attend", trace, "--plan", plan)["layers"][0]["heads"][0]["kept"] == kept


@pytest.mark.parametrize(
    "options",
    [
        ["--mass", 0.8, "--rule", "gap"],
        ["--p", 2, "--bias-in-test"],
        ["--mass", 0.8, "--bias-in-test"],
    ],
)
def test_cut_off_is_on_the_tested_quantity(tmp_path, options):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(bias=True))
    plan = make_plan(tmp_path / "plan.json", trace, options=options)
    at = ["--layer", 0, "--head", 1, "--query", 4, "--top", 0]
    report = run_json("inspect", trace, "--plan", plan, *at)
    assert report["tested"] == "estimated_score"
    assert {key["kept"] for key in report["keys"]} == {True, False}
    for key in report["keys"]:
        assert key["kept"] == (key["estimated_score"] > report["cut_off"])


def test_exact_plans_say_so(tmp_path, trace):
    plan = make_plan(tmp_path / "exact.json", trace, options=["--p", 0])
    report = run_json("inspect", trace, "--plan", plan, *AT)
    assert (report["exact"], report["cut_off"], report["kept"]) == (True, None, 15)
    assert "exact" in report["why"][0]["sentence"]


def test_control_characters_in_tokens_are_shown_escaped(tmp_path):
    tensors = random_tensors(batch=1)
    tokens = [["\x1b[31m\n" for _ in range(24)]]
    trace = write_trace(tmp_path / "t.safetensors", tensors, tokens=tokens)
    plan = make_plan(tmp_path / "plan.json", trace)
    at = ["--layer", 0, "--head", 0, "--query", 0]
    done = run("inspect", trace, "--plan", plan, *at)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\\x1b[31m\\x0a" in done.stdout
    assert run_json("inspect", trace, "--plan", plan, *at)["token"] == "\x1b[31m\n"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--layer", 2, "0 to 1"),
        ("--head", 3, "0 to 2"),
        ("--batch", 2, "0 to 1"),
        ("--query", 15, "0 to 14"),  # padding
        ("--query", -1, "0 to 14"),
        ("--key", 15, "0 to 14"),
    ],
)
def test_an_index_out_of_range_is_refused(tmp_path, trace, plan, option, value, expected):
    args = [*AT, "--key", 0]
    args[args.index(option) + 1] = value
    assert_refused(
        tmp_path,
        "inspect",
        trace,
        "--plan",
        plan,
        *args,
        words=[f"{option}: expected {expected}, got {value}"],
    )


def test_a_masked_key_is_refused(tmp_path):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(), causal=True)
    plan = make_plan(tmp_path / "plan.json", trace)
    at = ["--layer", 0, "--head", 0, "--query", 4, "--key", 5]
    assert_refused(
        tmp_path, "inspect", trace, "--plan", plan, *at, words=["--key", "5 keys", "got 5"]
    )


def test_a_query_of_an_empty_sequence_is_refused(tmp_path):
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(lengths=[24, 0]))
    plan = make_plan(tmp_path / "plan.json", trace)
    at = ["--layer", 0, "--head", 0, "--batch", 1, "--query", 0]
    assert_refused(tmp_path, "inspect", trace, "--plan", plan, *at, words=["--query", "empty"])
