"""python -m elsa_attention.demo: captures, calibrates, evaluates, explains, simulates and draws."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsa_attention.commands.console import Parser, run
from elsa_attention.commands.evaluate import add_p_option

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel
    from elsa_attention.tasks import Task
    from elsa_attention.tasks.sweep import Sweep

_TRACE_SEQUENCES = 32  # Our choice: enough for stable thresholds, 100 MB in f16
_SHOWN_P = 1.0  # what the explanation and the pictures of heads show


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit code."""
    return run(_parser(), _demo, argv)


def _parser() -> Parser:
    parser = Parser(
        "python -m elsa_attention.demo",
        "Runs real models with ELSA attention on real data: how many keys it kept, what that\n"
        "cost, and why one key was dropped.",
        "  python -m elsa_attention.demo\n"
        "  python -m elsa_attention.demo --model ./my-bert --text notes.txt --out out/mine",
    )
    parser.add_argument("--model", help="a Hugging Face folder (default: both bundled models)")
    parser.add_argument("--text", metavar="FILE", help="with a folder: text, a document per line")
    add_p_option(parser)
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="(default: out/demo)")
    return parser


def _demo(args: argparse.Namespace) -> None:
    from elsa_attention import tasks

    if args.model is None or (args.model in tasks.DEFAULT_TASKS and args.text is None):
        names = [args.model] if args.model else ["rxn-albert", "minilm"]
        jobs = [(name, tasks.make(tasks.DEFAULT_TASKS[name])) for name in names]
    else:
        jobs = [(args.model, tasks.make("fidelity", args.text))]

    from elsa_attention.demo import pictures

    out = Path(args.out)
    start = time.perf_counter()
    done = [_job(model, task, args.p, out) for model, task in jobs]
    pictures.metric_against_kept([sweep for sweep, _ in done], out / "metric-against-kept.png")
    report = {"models": [sweep.as_json() | {"accelerator": machine} for sweep, machine in done]}
    (out / "results.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(f"{time.perf_counter() - start:.0f} s. Tables, plans, traces and pictures: {out}/")


def _job(name: str, task: Task, ps: list[float], out: Path) -> tuple[Sweep, dict[str, Any]]:
    import elsa_attention as ea
    from elsa_attention.demo import pictures, story
    from elsa_attention.demo.machine import on_the_accelerator
    from elsa_attention.models import load
    from elsa_attention.tasks.base import spread
    from elsa_attention.tasks.sweep import format_table, sweep

    loaded = load(name)
    folder = out / loaded.name
    folder.mkdir(parents=True, exist_ok=True)
    shown = _SHOWN_P if _SHOWN_P in ps else ps[0]

    _say(f"{loaded.name}: capturing Q, K and V")
    trace = folder / "trace.safetensors"
    sequences = spread(task.calibration_sequences(loaded), _TRACE_SEQUENCES)
    _capture(loaded, sequences, trace)

    _say(f"{loaded.name}: learning thresholds for p = {', '.join(f'{p:g}' for p in ps)}")
    learned = ea.calibrate_many([trace], settings=[{"p": p} for p in ps])
    plans = dict(zip(ps, learned, strict=True))
    for p, plan in plans.items():
        plan.save(folder / f"plan-p{p:g}.json")

    def progress(label: str, done: int, total: int) -> None:
        _say(f"{loaded.name}: evaluating {done}/{total} {label}")

    result = sweep(loaded, task, plans, progress=progress)
    table = format_table(result)
    (folder / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n")

    example = folder / "example.safetensors"
    sequence = story.pick_sequence(task.evaluation_sequences(loaded))
    _capture(loaded, [sequence], example)
    scene = story.pick_scene(example, plans[shown])
    text = story.tell(scene, folder / f"plan-p{shown:g}.json")
    (folder / "explanation.txt").write_text(text + "\n", encoding="utf-8")
    print(text + "\n")

    row = next(r for r in result.rows if r.p == shown)
    pictures.kept_by_head(loaded.name, shown, row.kept_by_head, folder / "kept-by-head.png")
    pictures.attention_of_head(scene, folder / "attention-of-one-head.png")

    _say(f"{loaded.name}: simulating the accelerator")
    told, machine = on_the_accelerator(trace, shown)
    print(told + "\n")
    return result, machine


def _capture(loaded: LoadedModel, sequences: list[list[int]], path: Path) -> None:
    from elsa_attention.models import activations

    activations.write_trace(
        path,
        activations.record(loaded, sequences, dtype="f16"),
        model=loaded.name,
        source_digest=loaded.digest,
        tokens=[loaded.tokenizer.tokens(ids) for ids in sequences],
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
