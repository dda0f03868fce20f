"""The commands and the Python of README.md work as written, on a tiny model named as there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def desk(tmp_path):
    """A folder with ./my-bert and notes.txt, as README's reader has them."""
    sys.path.insert(0, str(ROOT / "tests/python"))
    try:
        import tiny_models
    finally:
        sys.path.pop(0)
    tiny_models.save(tmp_path / "my-bert", "bert")
    random = np.random.RandomState(2)
    lines = [" ".join(random.choice(tiny_models.WORDS, size=n)) for n in range(10, 30)]
    (tmp_path / "notes.txt").write_text("\n".join(reversed(lines)))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def test_every_elsa_command_of_the_readme_runs(desk):
    commands = [
        line.partition("#")[0].strip()
        for _, block in BLOCKS
        for line in block.splitlines()
        if line.startswith("elsa ")
    ]
    assert [c.split()[1] for c in commands] == [
        "capture", "calibrate", "attend", "attend", "params", "inspect", "evaluate", "params",
        "calibrate", "simulate",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            command.split(), cwd=desk, env=os.environ | {"PATH": path}, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout or (desk / "plan.json").exists()


def test_the_python_of_the_readme_runs(desk):
    (code,) = (block for language, block in BLOCKS if language == "python")
    setup = """
import torch
from elsa_attention.models import load
from elsa_attention.tasks.base import batches as padded
loaded = load("my-bert")
model = loaded.model
sequences = [loaded.tokenizer.encode(line, 32) for line in open("notes.txt")]
batches = [batch for _, batch in padded(sequences, loaded.tokenizer.pad_id)]
inputs = batches[0]
query, key, value = torch.randn(3, 2, 4, 12, 8)
"""
    done = subprocess.run(
        [sys.executable, "-c", setup + code], cwd=desk, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kept, cycles, energy_pj, *sentence = done.stdout.split()
    assert 0 < float(kept) < 1
    assert int(cycles) > 0 and float(energy_pj) > 0 and sentence[0] == "Preprocessing"


def test_files_that_the_readme_links_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
