"""elsa-capture: the queries, keys and values of a real model on real text, as a trace file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from elsa_attention.commands.console import Parser, positive, progress, run

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel
    from elsa_attention.tasks import Task

_DTYPES = ("f32", "f16", "bf16")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return run(_parser(), _capture, argv)


def _parser() -> Parser:
    parser = Parser(
        "elsa-capture",
        "Runs a model on text with exact attention and writes what every attention layer saw\n"
        "(Q, K and V per layer and head) to a trace that calibrate, attend and inspect read.",
        "  elsa capture --model minilm --task doc-similarity -o minilm.safetensors\n"
        "  elsa capture --model ./my-bert --text notes.txt --max-length 256 -o notes.safetensors\n"
        "  elsa calibrate notes.safetensors --p 1 -o plan.json",
    )
    parser.add_argument(
        "--model", required=True, help="a Hugging Face folder, or one of: minilm, rxn-albert"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--text", metavar="FILE", help="UTF-8 text, one document per line (rxn-albert: reactions)"
    )
    source.add_argument(
        "--task", metavar="NAME", help="data of a task: masked-token, doc-similarity, fidelity"
    )
    parser.add_argument("--data", metavar="FILE", help="with --task: your file instead of its own")
    parser.add_argument(
        "--split",
        choices=("calibration", "evaluation"),
        help="with --task: which part of its data (default: calibration)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="TRACE", help="file to write")
    parser.add_argument(
        "--max-length", type=positive, metavar="N", help="cut text to N tokens (default: model's)"
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="at most N sequences, evenly spaced"
    )
    parser.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="sequences at once (16)"
    )
    parser.add_argument("--dtype", choices=_DTYPES, default="f32", help="of the trace (f32)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _capture(args: argparse.Namespace) -> None:
    from elsa_attention import tasks

    # What can be known to be wrong is found before the seconds that loading a model takes.
    output = Path(args.output)
    _check_output(output, args)
    if args.text is not None:
        for option in ("data", "split"):
            if getattr(args, option) is not None:
                raise ValueError(f"--{option}: expected it with --task, got --text")
        with open(args.text, "rb"):
            task = None
    else:
        task = tasks.make(args.task, args.data)

    from elsa_attention.models import activations, load

    loaded = load(args.model)
    sequences = _sequences(args, task, loaded)
    if args.limit:
        sequences = tasks.spread(sequences, args.limit)
    with progress(f"capture {loaded.name}", len(sequences)) as done:
        recorded = activations.record(
            loaded, sequences, dtype=args.dtype, batch_size=args.batch_size, progress=done
        )
    size = activations.write_trace(
        output,
        recorded,
        model=loaded.name,
        source_digest=loaded.digest,
        tokens=[loaded.tokenizer.tokens(s) for s in sequences],
    )
    summary = {
        "path": str(output),
        "model": loaded.name,
        "source_digest": loaded.digest,
        "layers": len(recorded.q),
        "heads": recorded.q[0].shape[1],
        "kv_heads": recorded.k[0].shape[1],
        "head_dim": recorded.q[0].shape[3],
        "sequences": len(sequences),
        "tokens": sum(recorded.lengths),
        "longest": max(recorded.lengths),
        "scale": recorded.scale,
        "causal": recorded.causal,
        "dtype": args.dtype,
        "size_bytes": size,
    }
    if args.json:
        print(json.dumps(summary))
    else:
        print(
            "{path}: {model}, {layers} layers x {heads} heads, d = {head_dim}, "
            "{sequences} sequences, {tokens} tokens, {size_bytes} bytes".format(**summary)
        )


def _check_output(path: Path, args: argparse.Namespace) -> None:
    """Finds out before minutes of work that the result could not, or must not, be written."""
    if path.is_dir() or not path.name:
        raise OSError(f"{path}: expected a file to write, got a folder")
    if path.exists() and not path.is_file():
        raise OSError(f"{path}: expected a file to write, got a device or pipe")
    model = Path(args.model)
    inputs = [Path(name) for name in (args.text, args.data) if name is not None]
    inputs += model.rglob("*") if model.is_dir() else []
    if path.exists() and any(name.exists() and name.samefile(path) for name in inputs):
        raise ValueError(f"{path}: expected an output other than the inputs, got one of them")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise OSError(f"{path}: expected an existing folder {path.parent}, got none")
    if not os.access(folder, os.W_OK):
        raise OSError(f"{path}: expected a folder that can be written, got a read-only one")


def _sequences(args: argparse.Namespace, task: Task | None, loaded: LoadedModel) -> list[list[int]]:
    """Token ids of the input, at most max-length each."""
    from elsa_attention.tasks.readers import read_texts

    longest = args.max_length or loaded.max_length
    if longest > loaded.max_length:
        raise ValueError(
            f"--max-length: expected at most {loaded.max_length} for {loaded.name}, got {longest}"
        )
    if task is not None:
        part = getattr(task, f"{args.split or 'calibration'}_sequences")
        return [ids[:longest] for ids in part(loaded)]
    texts = read_texts(args.text, loaded)
    sequences = [loaded.tokenizer.encode(text, longest) for text in texts]
    for text, ids in zip(texts, sequences, strict=True):
        if not ids:
            raise ValueError(f"{args.text}: {text[:40]!r}: expected tokens, got none")
    return sequences
