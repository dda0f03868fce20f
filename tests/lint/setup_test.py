"""scripts/setup.sh installs what is missing where it may, and else prints the one line to run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(tmp_path):
    """A copy of the script, a list of packages, and a PATH on which nothing real can install."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/setup.sh", tmp_path / "scripts")
    (tmp_path / "list").write_text("# comment\n\nhere-dev\nlibfoo-dev\nlibbar-dev\n")
    program(tmp_path, "dpkg-query", 'case "$*" in *here-dev*) echo "install ok installed" ;; esac')
    program(tmp_path, "apt-get", f'echo "apt-get $*" >> {tmp_path}/log')
    return tmp_path


def program(machine: Path, name: str, text: str) -> None:
    """A program that PATH finds before the real one."""
    path = machine / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def setup(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine / "scripts/setup.sh", *arguments],
        env={"PATH": f"{machine / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_without_rights_it_prints_the_one_line_to_run(machine):
    program(machine, "id", "echo 1000")
    program(machine, "sudo", "exit 1")
    done = setup(machine, "debian", "list")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[1:] == [
        "  sudo apt-get update && sudo apt-get install -y libfoo-dev libbar-dev",
    ]
    assert not (machine / "log").exists()


@pytest.mark.parametrize("user", ["0", "1000"])
def test_with_rights_it_installs_what_is_missing(machine, user):
    program(machine, "id", f"echo {user}")
    program(machine, "sudo", 'shift; exec "$@"')
    done = setup(machine, "debian", "list")
    assert done.returncode == 0, done.stderr
    assert (machine / "log").read_text().splitlines() == [
        "apt-get update -qq",
        "apt-get install -y -qq libfoo-dev libbar-dev",
    ]


def test_where_all_is_there_it_does_nothing(machine):
    (machine / "list").write_text("here-dev\nmake\n")
    program(machine, "make", "exit 0")  # a compiler or tool of another origin serves as well
    done = setup(machine, "debian", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (machine / "log").exists()


def test_an_unknown_part_is_refused(machine):
    done = setup(machine, "everything")
    assert done.returncode == 2
    assert done.stderr == "setup: expected debian LIST or python, got 'everything'\n"
