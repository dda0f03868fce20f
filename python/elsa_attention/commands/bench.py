"""elsa-bench: the engine `cpu` beside its peers on this machine, checked, then timed."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from elsa_attention.bench import cases
from elsa_attention.commands.console import Parser, positive, progress, run

FORMAT_VERSION = 1
# What --quick stands for, where the options say nothing else.
_QUICK = {"n": [512], "kept": [0.1, 0.2], "seconds": 2.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 1 if a result was wrong."""
    return run(_parser(), lambda args: _bench(args, argv), argv)


def _parser() -> Parser:
    parser = Parser(
        "elsa-bench",
        "Times exact and ELSA attention of the engine cpu against torch, FlexAttention,\n"
        "onnxruntime and OpenVINO: one run, all in turns, every result checked against fp64\n"
        "first. Speed-ups are medians of ratios within a round, with the 10-90 % range.",
        "  elsa bench --quick\n"
        "  elsa bench --n 512,2048 --d 64 --threads 1,2 --kept 0.1,0.2\n"
        "  elsa bench --cases traces,decode --json > bench.json\n"
        "  elsa bench --from bench.json --plot bench.png",
    )
    words = _list_of(str)
    parser.add_argument(
        "--cases", type=words, metavar="KIND,...", help=f"{', '.join(cases.KINDS)} (all)"
    )
    parser.add_argument("--n", type=_list_of(positive), metavar="N,...", help="random: tokens")
    parser.add_argument("--d", type=_list_of(positive), metavar="D,...", help="random: head size")
    parser.add_argument("--causal", choices=("no", "yes", "both"), help="random: which masks")
    parser.add_argument("--caches", type=_list_of(positive), metavar="N,...", help="decode: keys")
    parser.add_argument(
        "--threads", type=_list_of(positive), default=[1, 2], metavar="T,...", help="(1,2)"
    )
    parser.add_argument(
        "--kept", type=_list_of(_share), metavar="F,...", help="shares of pairs that plans keep"
    )
    parser.add_argument(
        "--precision", type=words, metavar="P,...", help=f"{', '.join(cases.PRECISIONS)} (all)"
    )
    parser.add_argument("--peers", type=words, metavar="NAME,...", help="peers (all), or none")
    parser.add_argument(
        "--remainder", choices=("none", "mean"), help="plans (random: none, traces: mean)"
    )
    parser.add_argument("--rounds", type=positive, metavar="R", help="instead of --seconds")
    parser.add_argument("--seconds", type=float, metavar="S", help="timing per case (10)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, on a busy machine; needs --threads 1 (wall)",
    )
    parser.add_argument("--seed", type=positive, default=1, metavar="S", help="of random data (1)")
    parser.add_argument(
        "--quick", action="store_true", help="n = 512, kept .1 and .2, no flex, 2 s per case"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the speed-ups")
    parser.add_argument(
        "--from",
        dest="earlier",
        nargs="+",
        metavar="FILE",
        help="show what earlier runs here printed with --json, measure nothing",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _list_of(item: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """An argparse type: different values, comma-separated."""

    def parse(text: str) -> list[Any]:
        try:
            values = [item(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a list like 1,2, got {text!r}") from None
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"expected different values, got {text!r}")
        return values

    return parse


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected shares between 0 and 1, got {text}")
    return value


def _bench(args: argparse.Namespace, argv: Sequence[str] | None) -> None:
    from elsa_attention.bench import plot, report

    if args.plot is not None and not args.plot.parent.is_dir():
        raise OSError(f"{args.plot}: expected an existing folder, got none: {args.plot.parent}")
    if args.earlier is not None:
        found = _together([_read(path) for path in args.earlier])
        if not args.json:
            print(report.whole(found))
    else:
        found = _measure(
            args, shlex.join(["elsa", "bench", *(sys.argv[1:] if argv is None else argv)])
        )
    if args.plot is not None:
        plot.write(found["cases"], args.plot)
    if args.json:
        print(json.dumps(found))
    wrong = [f"{r['name']}: {w['name']}" for r in found["cases"] for w in r["wrong"]]
    if wrong:
        print(f"elsa-bench: wrong results, not timed: {'; '.join(wrong)}", file=sys.stderr)
        raise SystemExit(1)


def _measure(args: argparse.Namespace, command: str) -> dict[str, Any]:
    """Runs the cases that were asked for; as text, shows each as soon as it is done."""
    from elsa_attention.bench import report
    from elsa_attention.bench.environment import describe, target
    from elsa_attention.bench.run import Options, run_case

    if args.clock == "cpu" and args.threads != [1]:
        raise ValueError("--clock cpu: expected --threads 1, got more")
    chosen = _cases(args)
    peers, absent = _peers(args)
    quick = _QUICK if args.quick else {}
    options = Options(
        peers,
        kept=args.kept or quick.get("kept", cases.KEPT),
        decode_kept=args.kept or cases.DECODE_KEPT,
        precisions=_known("--precision", args.precision, cases.PRECISIONS),
        remainder=args.remainder,
        rounds=args.rounds,
        seconds=args.seconds or quick.get("seconds", 10.0),
        clock=args.clock,
        seed=args.seed,
    )
    found: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "command": command,
        "clock": args.clock,
        "environment": describe(target()),
        "absent": absent,
        "cases": [],
    }
    if not args.json:
        print(report.header(found), flush=True)
    with progress("bench", len(chosen)) as done:
        for number, case in enumerate(chosen, 1):
            found["cases"].append(run_case(case, options))
            done(number)
            if not args.json:
                print(f"\n{report.case_table(found['cases'][-1])}", flush=True)
    found["losses"] = report.losses(found["cases"])
    if not args.json:
        print(report.closing(found))
    return found


def _read(path: str) -> dict[str, Any]:
    """What an earlier run printed with --json. Errors: OSError, ValueError."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        found = json.loads(text)
        version = found["format_version"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: expected what elsa bench --json prints") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version: expected {FORMAT_VERSION}, got {version}")
    return found


def _together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one. Errors: ValueError unless all are of one machine and its versions."""
    first = runs[0]
    for other in runs[1:]:
        if other["clock"] != first["clock"]:
            raise ValueError(f"--from: clock: expected {first['clock']} in all files")
        for what in ("cpu", "cores", "target", "versions"):
            expected, got = first["environment"][what], other["environment"][what]
            if got != expected:
                raise ValueError(f"--from: {what}: expected {expected} in all files, got {got}")
    return first | {
        "command": "; ".join(one["command"] for one in runs),
        "cases": [case for one in runs for case in one["cases"]],
        "losses": [line for one in runs for line in one["losses"]],
    }


def _known(option: str, words: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """The words that were asked for, all of them known; without any, all there are."""
    for word in words or ():
        if word not in known:
            raise ValueError(f"{option}: expected some of {', '.join(known)}, got {word!r}")
    return words or known


def _cases(args: argparse.Namespace) -> list[cases.Case]:
    asked = args.cases
    if asked is None and (args.quick or args.n or args.d or args.causal):
        asked = ["random"]  # options of random cases ask for no other
    causal = {None: None, "no": [False], "yes": [True], "both": [False, True]}[args.causal]
    lengths = args.n or (_QUICK["n"] if args.quick else None)
    kinds = _known("--cases", asked, cases.KINDS)
    for d in args.d or ():
        if d > 256:
            raise ValueError(f"--d: expected at most 256, got {d}")
    return cases.choose(kinds, lengths, args.d, causal, args.threads, args.caches or cases.CACHES)


def _peers(args: argparse.Namespace) -> tuple[list[Any], list[dict[str, str]]]:
    """Those that take part, and those that are not installed. Errors: ValueError if one that was
    asked for by name is not."""
    from elsa_attention.bench.peers import PEERS

    names = [peer.name for peer in PEERS]
    asked = [] if args.peers == ["none"] else _known("--peers", args.peers, names)
    if args.quick and not args.peers:
        asked = [name for name in names if not name.startswith("flex")]  # slow to compile
    present, absent = [], []
    for peer in PEERS:
        if peer.name not in asked:
            continue
        install = peer.absent()
        if install is None:
            present.append(peer)
        elif args.peers:
            raise ValueError(f"--peers: expected {peer.name} installed, got none; run: {install}")
        else:
            absent.append({"name": peer.name, "install": install})
    return present, absent
