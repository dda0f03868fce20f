"""Python style: what `make format` leaves behind. (C++ style is in `make lint`, which needs
clang-format.)"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_finds_nothing_to_mend(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "python", "tests", "scripts"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
