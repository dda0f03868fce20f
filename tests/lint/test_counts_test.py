"""scripts/check_test_counts.py notices a run that executed too few tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CTEST = "100% tests passed, 0 tests failed out of 20\n\nTotal Test time (real) =   3.10 sec\n"
PYTEST = "....\n30 passed, 2 deselected in 4.56s\n"


def run(folder: Path, ctest: str, pytest_log: str) -> subprocess.CompletedProcess[str]:
    """The checker on two logs, of which 20 and 30 passed tests are expected."""
    (folder / "expected.json").write_text(json.dumps({"ctest": 20, "pytest": 30}))
    (folder / "ctest.log").write_text(ctest)
    (folder / "pytest.log").write_text(pytest_log)
    return subprocess.run(
        [
            sys.executable,
            ROOT / "scripts/check_test_counts.py",
            *(folder / name for name in ("expected.json", "ctest.log", "pytest.log")),
        ],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("ctest", "pytest_log"),
    [
        (CTEST, PYTEST),
        (CTEST.replace("of 20", "of 21"), PYTEST.replace("30", "31")),
        (CTEST, "30 passed, 1 skipped, 1 warning in 61.20s (0:01:01)\n"),
    ],
)
def test_enough_tests_pass(tmp_path: Path, ctest: str, pytest_log: str) -> None:
    done = run(tmp_path, ctest, pytest_log)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("ctest", "pytest_log", "message"),
    [
        (CTEST.replace("20", "19"), PYTEST, "ctest: expected at least 20 passed, got 19"),
        (
            CTEST.replace("100%", "95%").replace("0 tests f", "1 tests f"),
            PYTEST,
            "ctest: expected at least 20 passed, got 19",
        ),
        ("No tests were found!!!\n", PYTEST, "ctest: expected at least 20 passed, got 0"),
        (CTEST, PYTEST.replace("30", "29"), "pytest: expected at least 30 passed, got 29"),
        (CTEST, "1 failed, 29 passed in 4.56s\n", "pytest: expected at least 30 passed, got 29"),
        (CTEST, "no tests ran in 0.01s\n", "pytest: expected at least 30 passed, got 0"),
        (CTEST, "", "pytest: expected at least 30 passed, got 0"),
    ],
)
def test_too_few_tests_are_a_failure(
    tmp_path: Path, ctest: str, pytest_log: str, message: str
) -> None:
    done = run(tmp_path, ctest, pytest_log)
    assert (done.returncode, done.stdout) == (1, f"tests: {message}\n")


def test_both_runners_are_reported(tmp_path: Path) -> None:
    assert run(tmp_path, "", "").stdout.count("expected at least") == 2


def test_a_log_that_is_missing_or_not_expected_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text(json.dumps({"ctest": 20, "ctest-neon": 5}))
    for name in ("ctest", "pytest"):
        (tmp_path / f"{name}.log").write_text(CTEST if name == "ctest" else PYTEST)
    command = [sys.executable, ROOT / "scripts/check_test_counts.py", tmp_path / "expected.json"]
    logs = [tmp_path / "ctest.log", tmp_path / "pytest.log"]
    done = subprocess.run([*command, *logs], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == (
        "tests: ctest-neon: expected at least 5 passed, got 0\n"
        "tests: pytest: expected at least a number passed, got 30\n"
    )
