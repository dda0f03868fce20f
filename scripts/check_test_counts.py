"""Fails when a test run executed fewer tests than expected.

Usage: check_test_counts.py EXPECTED.json LOG...

EXPECTED.json holds a number for the name of each log without its ending. A name that begins with
pytest is a log of pytest, any other one of ctest.
A test that silently disappears (a file no longer found, a folder no longer built) leaves the run
green; the number of tests that ran does not. Raise the numbers when tests are added.
"""

import json
import re
import sys
from pathlib import Path


def ctest_count(log: str) -> int:
    """Tests that ran and passed, from ctest's closing line; 0 without one."""
    match = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", log)
    return int(match[3]) - int(match[2]) if match else 0


def pytest_count(log: str) -> int:
    """Tests that passed, from pytest's closing line; 0 without one."""
    match = re.search(r"(\d+) passed.* in [\d.]+s", log)
    return int(match[1]) if match else 0


def main(argv: list[str]) -> int:
    if len(argv) < 3:
        print(__doc__.splitlines()[2], file=sys.stderr)
        return 2
    expected = json.loads(Path(argv[1]).read_text())
    counts = {}
    for log in map(Path, argv[2:]):
        count = pytest_count if log.stem.startswith("pytest") else ctest_count
        counts[log.stem] = count(log.read_text())
    failed = False
    for runner in sorted(expected.keys() | counts.keys()):
        least, count = expected.get(runner, "a number"), counts.get(runner, 0)
        if not isinstance(least, int) or count < least:
            print(f"tests: {runner}: expected at least {least} passed, got {count}")
            failed = True
    if not failed:
        told = ", ".join(f"{count} {runner}" for runner, count in counts.items())
        print(f"tests: {told} tests passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
