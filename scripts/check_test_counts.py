"""Fails when a test run executed fewer tests than expected.

Usage: check_test_counts.py EXPECTED.json CTEST_LOG PYTEST_LOG

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
    if len(argv) != 4:
        print(__doc__.splitlines()[2], file=sys.stderr)
        return 2
    expected = json.loads(Path(argv[1]).read_text())
    counts = {
        "ctest": ctest_count(Path(argv[2]).read_text()),
        "pytest": pytest_count(Path(argv[3]).read_text()),
    }
    failed = False
    for runner, count in counts.items():
        if count < expected[runner]:
            print(f"tests: {runner}: expected at least {expected[runner]} passed, got {count}")
            failed = True
    if not failed:
        print(f"tests: {counts['ctest']} ctest and {counts['pytest']} pytest tests passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
