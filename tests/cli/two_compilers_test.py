"""A plan is the same bytes whatever compiler built the binary (make test-clang sets the other)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli_support import make_plan, random_tensors, write_trace


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--p", 1],
        ["--p", 2, "--remainder", "mean", "--hash", "hadamard", "--seed", 7],
        ["--mass", 0.9, "--theta-bias", "per-head", "--hash", "dense"],
        ["--mass", 0.9, "--rule", "gap", "--centring", "on", "--hash-bits", 128],
    ],
)
def test_both_compilers_write_the_same_plan(tmp_path, options):
    other = Path(os.environ["ELSA_OTHER_CLI"]).resolve()
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(d=32, n_q=60, lengths=[60, 41]))
    ours = make_plan(tmp_path / "ours.json", trace, options=options)
    theirs = tmp_path / "theirs.json"
    subprocess.run(
        [other, "calibrate", trace, *map(str, options), "-o", theirs],
        check=True,
        capture_output=True,
    )
    assert ours.read_bytes() == theirs.read_bytes()
