"""Whole models on the accelerator: ea.applied(engine=...) and elsa evaluate --engine."""

from __future__ import annotations

import json

import numpy as np
import pytest

import elsa_attention as ea
import tiny_models
from elsa_attention.commands.evaluate import main

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiny():
    """A random BERT of 3 layers, 4 heads, d = 8, and a batch of two lengths."""
    ids = torch.randint(5, 20, (2, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, 11:] = 0
    return tiny_models.model("bert"), dict(input_ids=ids, attention_mask=mask)


def hidden(model, batch):
    with torch.inference_mode():
        return model(**batch).last_hidden_state[batch["attention_mask"].bool()]


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("engine", ["fixed", "sim"])
def test_a_model_runs_on_the_machine(tiny, engine):
    model, batch = tiny
    exact = hidden(model, batch)
    accelerator = ea.Accelerator(formats="recommended")
    with ea.applied(model, None, engine=engine, accelerator=accelerator) as run:
        approximate = hidden(model, batch)
    assert 0.99 < cosine(exact, approximate) < 0.999999
    pairs = 3 * 4 * (16 * 16 + 11 * 11)
    assert run.total.pairs == run.total.kept == pairs
    assert run.total.queries == run.total.exact_queries == 3 * 4 * (16 + 11)
    assert run.formats.value.values == 3 * (16 + 11) * 32
    assert (run.report is None) == (engine == "fixed")


def test_a_model_and_its_cycles_come_from_one_run(tiny):
    model, batch = tiny
    machine = ea.Accelerator()
    plan = ea.calibrate(model, [batch], p=2, hash_d=64)
    # The same from outside: every call's tensors, one by one, on a machine of its own.
    calls = []
    with ea.applied(model, plan, engine="sim", accelerator=machine) as run:
        attend = run._engine.accelerator.simulate

        def spy(inputs, plan, layer, out, threads):
            q, k, v, *_ = (np.array(x) for x in inputs.arguments()[:3])
            report = attend(inputs, plan, layer, out, threads)
            calls.append((layer, q, k, v, list(inputs.key_lengths), inputs.scale))
            return report

        machine.simulate = spy
        hidden(model, batch)
        del machine.simulate
    assert [call[0] for call in calls] == [0, 1, 2]
    by_hand = sum(
        machine.attention(q, k, v, lengths=lengths, scale=scale, plan=plan, layer=layer)[1]
        for layer, q, k, v, lengths, scale in calls
    )
    assert run.report.heads == 3 * 4 * 2
    assert run.report.as_dict() == by_hand.as_dict()
    assert run.total.kept == run.report.counters["candidates"] < run.total.pairs
    first = run.report
    with ea.applied(model, plan, engine="sim", accelerator=machine) as again:
        hidden(model, batch)
        hidden(model, batch)
        assert again.report.cycles == 2 * first.cycles
        again.reset()
        assert again.report is None and again.formats is None


def test_a_model_without_a_plan_is_exact_in_floating_point(tiny):
    model, batch = tiny
    with ea.applied(model, None) as run:
        assert hidden(model, batch).allclose(hidden(model, batch))
    assert run.total.kept_fraction == 1 and run.report is None and run.formats is None


def test_engines_options_are_checked_when_a_plan_is_applied(tiny):
    model, _ = tiny
    with pytest.raises(ValueError, match="measure_mass: expected engine reference, got fixed"):
        ea.apply(model, None, engine="fixed", measure_mass=True)
    with pytest.raises(ValueError, match="accelerator: expected engine fixed or sim"):
        ea.apply(model, None, accelerator=ea.Accelerator())
    assert model.config._attn_implementation != "elsa"


# elsa evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("machine")
    random = np.random.RandomState(0)
    lines = [" ".join(random.choice(tiny_models.WORDS, size=n)) for n in range(8, 16)]
    (root / "text.txt").write_text("\n".join(lines) + "\n")
    tiny_models.save(root / "toy-bert", "bert")
    return root


def evaluate(folder, capsys, *arguments):
    given = ["--model", str(folder / "toy-bert"), "--task", "fidelity"]
    code = main([*given, "--data", str(folder / "text.txt"), *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_evaluate_gives_metric_cycles_and_energy_per_p(folder, capsys):
    code, out, err = evaluate(
        folder, capsys, "--engine", "sim", "--formats", "recommended", "--p", "0,1,4", "--json"
    )
    assert (code, err) == (0, "")
    report = json.loads(out)
    machine = ea.Accelerator("recommended")
    assert report["engine"] == "sim" and report["digest"] == machine.digest
    assert report["format_set"] == "recommended"
    assert [(r["p"], r["variant"]) for r in report["rows"]] == [(p, "paper") for p in (0, 1, 4)]
    exact, *rows = report["rows"]
    assert exact["kept_fraction"] == 1 and 0.99 < exact["metric"] < 1
    for row in rows:
        assert 0 < row["kept_fraction"] < 1 and row["mass_kept"] is None
    assert rows[1]["energy_pj"] < rows[0]["energy_pj"]
    assert all(row["cycles"] > 0 for row in report["rows"])


def test_evaluate_prints_a_table_with_the_costs(folder, capsys):
    code, out, _ = evaluate(folder, capsys, "--engine", "sim", "--p", "0")
    assert code == 0
    assert "engine sim, formats paper-literal, digest" in out
    assert "Mcycles  energy uJ" in out
    code, out, _ = evaluate(folder, capsys, "--engine", "fixed", "--p", "0")
    assert code == 0 and "cycles" not in out and "engine fixed" in out


def test_evaluate_runs_the_mean_row_on_a_machine_that_has_it(folder, capsys, tmp_path):
    text = (ea.accelerator._CONFIGS / "paper.toml").read_text()
    path = tmp_path / "mean.toml"
    path.write_text(text.replace('remainder = "none"', 'remainder = "mean"'))
    code, out, _ = evaluate(
        folder, capsys, "--engine", "fixed", "--config", str(path), "--p", "4", "--json"
    )
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [row["variant"] for row in rows] == ["paper", "paper + mean row"]
    # The first layer sees the same inputs; what the mean row adds shows behind it.
    first = [row["kept_fraction_by_head"][0] for row in rows]
    assert first[0] == first[1] and rows[0]["metric"] != rows[1]["metric"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--formats", "recommended"], "--formats: expected it with --engine fixed or sim"),
        (["--config", "x.toml"], "--config: expected it with --engine fixed or sim"),
        (["--engine", "sim", "--formats", "best"], "recommended"),
        (["--engine", "sim", "--config", "./absent.toml"], "absent.toml"),
        (["--engine", "fixed", "--variant", "random"], "random: expected --engine reference"),
        (["--engine", "fixed", "--variant", "mean-row"], "expected a machine with remainder"),
        (["--engine", "gpu"], "engine: expected one of reference, cpu, fixed, sim, got 'gpu'"),
    ],
)
def test_evaluate_refuses_in_one_line(folder, capsys, arguments, words):
    code, out, err = evaluate(folder, capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1
