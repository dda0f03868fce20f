"""elsa-evaluate: what approximate attention costs a real model on a labelled task."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from elsa_attention.accelerator import Accelerator
from elsa_attention.commands.console import Parser, positive, progress, run
from elsa_attention.engines import require_engine


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return run(_parser(), _evaluate, argv)


def p_values(text: str) -> list[float]:
    """An argparse type: comma-separated degrees of approximation, each finite and >= 0."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [-1.0]
    if not all(0 <= value < float("inf") for value in values) or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(
            f"expected different numbers >= 0 like 0.5,1,2, got {text!r}"
        )
    return values


def add_p_option(parser: Parser) -> None:
    """Adds --p, the settings that a table has rows for."""
    parser.add_argument(
        "--p",
        type=p_values,
        default=[0.5, 1.0, 2.0, 4.0, 8.0],
        metavar="P,...",
        help="degrees of approximation; 0 is exact (default: 0.5,1,2,4,8)",
    )


def _parser() -> Parser:
    parser = Parser(
        "elsa-evaluate",
        "Learns thresholds on a task's calibration data and evaluates the task with ELSA inside\n"
        "the model, exact beside approximate: kept keys, softmax mass, metric, change, fidelity.",
        "  elsa evaluate --model minilm --task doc-similarity --p 1,2,4\n"
        "  elsa evaluate --model ./my-bert --task fidelity --data notes.txt --json\n"
        "  elsa evaluate --model minilm --engine sim --formats recommended --p 0,1",
    )
    parser.add_argument(
        "--model", required=True, help="a Hugging Face folder, or one of: minilm, rxn-albert"
    )
    parser.add_argument(
        "--task", help="masked-token, doc-similarity or fidelity (default: the bundled model's)"
    )
    parser.add_argument("--data", metavar="FILE", help="your text instead of the task's own")
    add_p_option(parser)
    parser.add_argument(
        "--variant",
        action="append",
        choices=("paper", "mean-row", "random"),
        dest="variants",
        help="repeatable; what to do with the thresholds (default: all three, on the accelerator "
        "those it has; random is the control that keeps as many keys, drawn at random)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="at most N examples of --data")
    parser.add_argument(
        "--engine",
        default="reference",
        help="reference: floating point; cpu: the same keys, fast; fixed: the accelerator's "
        "values; sim: also its cycles and energy (default: reference)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "16bit", "int8"),
        default="auto",
        help="with cpu: of keys and values (default: auto, that of the model's tensors)",
    )
    parser.add_argument(
        "--select",
        choices=("auto", "always"),
        default="always",
        help="with cpu: auto computes a head exactly where that is as fast (default: always, "
        "which shows what the plan costs)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="with fixed and sim: the machine (default: the paper's)"
    )
    parser.add_argument(
        "--formats",
        metavar="WORD",
        help="with fixed and sim: its number formats, paper-literal or recommended",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="(default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


_VARIANT_NAMES = {"paper": "paper", "mean-row": "paper + mean row", "random": "random keys"}


def _evaluate(args: argparse.Namespace) -> None:
    from elsa_attention import tasks
    from elsa_attention.models import load
    from elsa_attention.tasks.sweep import VARIANTS, format_table, learn, sweep

    name = args.task or tasks.DEFAULT_TASKS.get(args.model)
    if name is None:
        raise ValueError(f"--task: expected one of {', '.join(tasks.TASKS)}, got none")
    task = tasks.make(name, args.data, args.limit)
    accelerator = _accelerator(args)
    chosen = [_VARIANT_NAMES[v] for v in args.variants] if args.variants else list(VARIANTS)
    if args.engine != "reference" and not args.variants:
        has_mean = accelerator is None or accelerator.config.remainder == "mean"
        chosen = ["paper", "paper + mean row"][: 1 + has_mean]
    loaded = load(args.model)
    with progress(f"evaluate {loaded.name}", 1) as done:
        plans = learn(loaded, task, args.p, accelerator=accelerator, threads=args.threads)
        result = sweep(
            loaded,
            task,
            plans,
            variants=chosen,
            engine=args.engine,
            accelerator=accelerator,
            threads=args.threads,
            precision=args.precision,
            select=args.select,
            progress=lambda label, step, total: done(step / total),
        )
    if args.json:
        print(json.dumps(result.as_json()))
    else:
        print(format_table(result))


def _accelerator(args: argparse.Namespace) -> Accelerator | None:
    """The machine of the engine; None for the engine without one. Refuses what it has not."""
    require_engine(args.engine)
    if "random" in (args.variants or ()) and args.engine != "reference":
        raise ValueError(f"--variant random: expected --engine reference, got {args.engine}")
    if args.precision != "auto" and args.engine != "cpu":
        raise ValueError(f"--precision: expected it with --engine cpu, got {args.engine}")
    if args.engine in ("reference", "cpu"):
        for option in ("config", "formats"):
            if getattr(args, option) is not None:
                raise ValueError(f"--{option}: expected it with --engine fixed or sim, got neither")
        return None
    accelerator = Accelerator(args.config, formats=args.formats)
    if "mean-row" in (args.variants or ()) and accelerator.config.remainder != "mean":
        raise ValueError(
            "--variant mean-row: expected a machine with remainder = mean, got "
            f"{accelerator.config.remainder}"
        )
    return accelerator
