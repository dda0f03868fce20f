"""What the commands share: one-line usage errors, exit codes and a progress bar.

Contract: exit 0 done, 2 bad input or usage, 128 + the signal when interrupted; messages and
progress on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

# The packages of the extra "models".
_EXTRAS = ("torch", "transformers", "safetensors", "rich")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose help keeps its line breaks."""

    def __init__(self, prog: str, description: str, example: str):
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n{example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and leaving the process."""
        raise ValueError(f"{message} (see {self.prog} --help)")


def run(
    parser: Parser, action: Callable[[argparse.Namespace], None], argv: Sequence[str] | None
) -> int:
    """Parses, runs the action and returns the exit code; bad input is one line on stderr."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        args = parser.parse_args(argv)
        _require_extras()
        action(args)
    except SystemExit as leave:  # --help, SIGTERM
        return int(leave.code or 0)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: {_message(error)}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends as an exception does, so that temporary files are removed."""
    raise SystemExit(128 + number)


def _require_extras() -> None:
    """Refuses to begin where the core alone is installed."""
    missing = [name for name in _EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"expected {', '.join(missing)} to be installed, got none; run: "
            "pip install 'elsa-attention[models]'"
        )


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def positive(text: str) -> int:
    """An argparse type: an integer from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer from 1, got {text}")
    return value


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr while the block runs, if stderr is a terminal.

    Yields a function that is told how much of `total` is done.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
