"""make demo's program, on a tiny model: what it leaves behind and what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

import elsa_attention as ea
import tiny_models
from elsa_attention.demo.__main__ import main
from elsa_attention.demo.story import pick_scene


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The demo on a local model folder: exit code, output folder, what it printed."""
    import contextlib
    import io

    base = tmp_path_factory.mktemp("demo")
    folder = tiny_models.save(base / "toy-bert", "bert")
    random = np.random.RandomState(1)
    text = base / "text.txt"
    lines = [" ".join(random.choice(tiny_models.WORDS, size=n)) for n in range(6, 26)]
    text.write_text("\n".join(lines))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(
            ["--model", str(folder), "--text", str(text), "--p", "1,4", "--out", str(base / "out")]
        )
    return code, base / "out", printed.getvalue()


def test_demo_leaves_tables_plans_traces_and_pictures(done):
    code, out, printed = done
    assert code == 0
    for picture in (
        "metric-against-kept.png",
        "toy-bert/kept-by-head.png",
        "toy-bert/attention-of-one-head.png",
    ):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert [ea.Plan.load(out / f"toy-bert/plan-p{p}.json").p for p in (1, 4)] == [1, 4]
    assert ea.Trace.open(str(out / "toy-bert/trace.safetensors")).layers == 3
    rows = json.loads((out / "results.json").read_text())["models"][0]["rows"]
    assert len(rows) == 6
    machine = json.loads((out / "results.json").read_text())["models"][0]["accelerator"]
    assert 0 < machine["cycles"] == sum(machine["causes"].values())
    assert "On the simulated accelerator" in printed
    assert (out / "toy-bert/table.txt").read_text().strip() in printed


def test_story_names_tokens_and_tells_the_truth(done):
    _, out, printed = done
    trace, plan = out / "toy-bert/example.safetensors", out / "toy-bert/plan-p1.json"
    scene = pick_scene(trace, ea.Plan.load(plan))
    text = (out / "toy-bert/explanation.txt").read_text()
    assert text.strip() in printed
    for key, verdict in ((scene.kept_key, "is kept"), (scene.dropped_key, "is dropped")):
        assert f"key {key} '{scene.tokens[key]}' {verdict}" in text
    # Against attention itself: what the story calls kept is what a plan keeps.
    opened = ea.Trace.open(str(trace))
    q, k, v, _ = opened.layer(scene.layer)
    _, stats = ea.attention(
        q, k, v, scale=opened.scale, plan=ea.Plan.load(plan), layer=scene.layer, return_stats=True
    )
    told = sum(key.kept for e in scene.explanations for key in e.keys)
    assert stats[scene.head].kept == told


def test_demo_of_a_missing_model_is_one_line_and_exit_2(tmp_path, capsys):
    assert main(["--model", "absent", "--text", "absent.txt", "--out", str(tmp_path / "o")]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_folder_without_text_says_what_is_missing(tmp_path, capsys):
    folder = tiny_models.save(tmp_path / "toy-bert", "bert")
    assert main(["--model", str(folder), "--out", str(tmp_path / "o")]) == 2
    assert "data file" in capsys.readouterr().err
