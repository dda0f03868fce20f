"""The layer rule holds in this tree, and scripts/check_layers.py catches every way to break it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check_layers.py"


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(root)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree that keeps all rules."""
    (tmp_path / "layers.txt").write_text("# layers\nbase:\nparams: base\nio: base params\n")
    files = {
        "base/testing.h": '#include <cstdlib>\nconst char* F() { return std::getenv("X"); }\n',
        "base/error.h": '// exit(1), printf("x") and std::cout are only words here\n',
        "params/plan.h": '#include <string>\n#include "elsa/base/error.h"\n',
        "params/plan.cc": '#include "elsa/params/plan.h"\n/* getenv("X")\n abort() */\n'
        'const char* kText = "std::cout << \\" fopen(";\nvoid F() { file.open(); x->exit(1); }\n'
        'int n = std::snprintf(b, 3, "%d", 1); char c = \'"\';\n',
        "params/plan_test.cc": "#include <gtest/gtest.h>\n#include <fstream>\n"
        '#include "elsa/params/plan.h"\n',
        "io/file.cc": '#include <fcntl.h>\n#include "elsa/params/plan.h"\n'
        "int F() { return ::open(p, 0); }\n",
    }
    for name, text in files.items():
        path = tmp_path / "src" / "elsa" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_this_tree_keeps_the_layers() -> None:
    result = run(ROOT)
    assert result.returncode == 0, result.stdout
    assert int(result.stdout.split()[1]) >= 10, "the checker saw almost no files"


def test_a_tree_that_keeps_the_rules_passes(tree: Path) -> None:
    result = run(tree)
    assert (result.returncode, result.stdout) == (0, "layers: 6 files, 0 violations\n")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("base/error.h", '#include "elsa/params/plan.h"', "header of base, got elsa/params/plan.h"),
        ("base/error.h", "#include <elsa/io/file.h>", "header of base, got elsa/io/file.h"),
        ("params/plan.h", '  #  include "elsa/io/x.h"', "header of params, base, got elsa/io/x.h"),
        ("params/plan_test.cc", '#include "elsa/io/x.h"', "params, base, got elsa/io/x.h"),
        ("params/plan.cc", '#include "elsa/reference/hash.h"', "got elsa/reference/hash.h"),
        ("params/plan.cc", '#include "elsa/commands.h"', "got elsa/commands.h"),
        ("params/plan.cc", '#include "elsa/elsa_c.h"', "got elsa/elsa_c.h"),
        ("params/plan.cc", '#include "plan.h"', 'expected elsa/<layer>/..., got "plan.h"'),
        ("params/plan.cc", '#include "../io/file.h"', 'got "../io/file.h"'),
        ("params/plan.cc", "#include <fstream>", "opening files: expected none, got <fstream>"),
        ("params/plan.cc", "std::ifstream in(p);", "got ifstream"),
        ("params/plan.cc", "FILE* f = std::fopen(p, m);", "got std::fopen"),
        ("params/plan.cc", "int f = ::open(p, 0);", "got ::open"),
        ("params/plan.cc", "#include <iostream>", "got <iostream>"),
        ("io/file.cc", "#include <iostream>", "got <iostream>"),
        ("io/file.cc", 'printf("x");', "got printf"),
        ("io/file.cc", "fprintf (stderr, x);", "got fprintf"),
        ("io/file.cc", "std::cerr << x;", "got std::cerr"),
        ("io/file.cc", "std::getenv(x);", "got std::getenv"),
        ("params/plan.cc", "std::getenv(x);", "got std::getenv"),
        ("io/file.cc", "if (bad) std::abort();", "got std::abort"),
        ("io/file.cc", "exit(2);", "got exit"),
        ("io/file.cc", '"//"; exit(2);', "got exit"),
    ],
)
def test_a_broken_line_is_caught_where_it_stands(
    tree: Path, name: str, line: str, message: str
) -> None:
    path = tree / "src" / "elsa" / name
    broken_at = path.read_text().count("\n") + 1
    path.write_text(path.read_text() + line + "\n")
    result = run(tree)
    assert result.returncode == 1
    assert result.stdout.startswith(f"src/elsa/{name}:{broken_at}: ")
    assert message in result.stdout
    assert result.stdout.endswith("layers: 6 files, 1 violations\n")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "base:\nparams: io\nio: base params\n",
            "layers.txt:2: params: expected layers of earlier",
        ),
        ("base: base\nparams: base\nio: base params\n", "layers.txt:1: base: expected layers"),
        ("base:\nparams base\nio: base params\n", "layers.txt:2: expected '<layer>: <layer> ...'"),
        ("base:\nparams: base\n", "src/elsa/io: expected a line in layers.txt, got none"),
    ],
)
def test_a_broken_graph_is_caught(tree: Path, layers: str, message: str) -> None:
    (tree / "layers.txt").write_text(layers)
    result = run(tree)
    assert result.returncode == 1
    assert message in result.stdout


def test_a_tree_without_sources_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "layers.txt").write_text("base:\n")
    (tmp_path / "src" / "elsa").mkdir(parents=True)
    assert run(tmp_path).returncode == 1
