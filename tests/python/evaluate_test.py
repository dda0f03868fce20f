"""elsa-evaluate and the sweep behind it: what the table says must be what the model did."""

from __future__ import annotations

import json

import numpy as np
import pytest

import elsa_attention as ea
import tiny_models
from elsa_attention import models, tasks
from elsa_attention.commands.evaluate import main
from elsa_attention.tasks.sweep import VARIANTS, format_table, learn, sweep

WORDS = tiny_models.WORDS


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Twelve documents of 8 to 20 words."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    random = np.random.RandomState(0)
    lines = [" ".join(random.choice(WORDS, size=n)) for n in range(8, 20)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("model") / "toy-bert", "bert")


def test_exact_setting_keeps_everything_and_changes_nothing(folder, text, capsys):
    code = main(
        ["--model", str(folder), "--task", "fidelity", "--data", str(text), "--p", "0", "--json"]
    )
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    (row,) = report["rows"]
    assert row["kept_fraction"] == row["mass_kept"] == 1
    assert row["fidelity"] == pytest.approx(1, abs=1e-6)
    assert row["metric_change"] == pytest.approx(0, abs=1e-6)


def test_a_larger_p_keeps_less_and_every_variant_has_a_row(folder, text, capsys):
    argv = ["--model", str(folder), "--task", "fidelity", "--data", str(text), "--p", "0.5,1,4"]
    assert main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(r["p"], r["variant"]) for r in rows] == [(p, v) for p in (0.5, 1, 4) for v in VARIANTS]
    for variant in VARIANTS:
        kept = [r["kept_fraction"] for r in rows if r["variant"] == variant]
        assert kept == sorted(kept, reverse=True)
        assert kept[0] > kept[-1]
    for row in rows:
        low, high = row["metric_change_interval"]
        assert low <= row["metric_change"] <= high
        by_head = np.array(row["kept_fraction_by_head"])
        assert by_head.shape == (3, 4)
        # Every head sees the same pairs, so that the total is their mean.
        assert row["kept_fraction"] == pytest.approx(by_head.mean())


def test_row_equals_the_model_run_by_hand(folder, text):
    loaded = models.load(folder)
    task = tasks.make("fidelity", text)
    plans = learn(loaded, task, [1.0])
    result = sweep(loaded, task, plans, variants=["paper + mean row"])
    plan = plans[1.0].replace(remainder="mean")
    with ea.applied(loaded.model, plan, measure_mass=True) as run:
        by_hand = task.evaluate(loaded, result.exact)
    assert result.rows[0].metric == by_hand.metric
    assert result.rows[0].kept_fraction == run.total.kept_fraction
    assert result.rows[0].mass_kept == run.total.mass_kept


def test_table_has_a_line_per_row_and_says_what_was_measured(folder, text):
    loaded = models.load(folder)
    task = tasks.make("fidelity", text)
    result = sweep(loaded, task, learn(loaded, task, [2.0]))
    title, head, rule, *lines = format_table(result).splitlines()
    assert title.startswith("toy-bert, fidelity: 6 examples")
    assert len(lines) == 1 + len(result.rows)
    for line, row in zip(lines[1:], result.rows, strict=True):
        assert line.startswith(row.variant)
        assert f"{row.kept_fraction:.3f}" in line
        assert f"{row.fidelity:.4f}" in line
    assert {len(line) for line in (head, rule, *lines[1:])} == {len(head)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--p": "1,-2"}, "expected different numbers >= 0"),
        ({"--p": "1,1"}, "expected different numbers >= 0"),
        ({"--p": "nan"}, "expected different numbers >= 0"),
        ({"--task": "nonsense"}, "expected one of masked-token"),
        ({"--data": "absent.txt"}, "absent.txt"),
        ({"--engine": "gpu"}, "engine: expected one of"),
        ({"--model": "absent-model"}, "absent-model"),
        ({"--limit": "1"}, "at least 2"),
        ({"--threads": "0"}, "expected an integer from 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(folder, text, capsys, change, words):
    given = {"--model": str(folder), "--task": "fidelity", "--data": str(text), "--p": "1"}
    argv = [part for pair in (given | change).items() for part in pair]
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert told.err.count("\n") == 1


@pytest.mark.slow
def test_mean_row_cuts_the_loss_of_the_reaction_model_to_a_third():
    loaded = models.load("rxn-albert")
    task = tasks.make("masked-token")
    result = sweep(loaded, task, learn(loaded, task, [4.0]))
    loss = {row.variant: -row.change.relative for row in result.rows}
    assert loss["paper"] > 0
    assert loss["paper + mean row"] <= loss["paper"] / 3
    assert loss["random keys"] > loss["paper"]  # the metric does test attention
