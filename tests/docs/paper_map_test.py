"""docs/paper-map.md lists the whole paper, and what it calls done is in the tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = ["item", "section", "file", "test", "status"]
SECTION = re.compile(r"(II|III|IV|V)-[A-E]")


@dataclass
class Row:
    line: int
    cells: list[str]


def rows_of(text: str) -> list[Row]:
    """The rows of all tables, without headers and rules."""
    rows = []
    for line, content in enumerate(text.splitlines(), 1):
        if not content.startswith("|"):
            continue
        cells = [cell.strip() for cell in content.strip().strip("|").split("|")]
        if cells != HEADER and not all(
            set(cell) <= {"-", ":"} and len(cell) >= 3 for cell in cells
        ):
            rows.append(Row(line, cells))
    return rows


def problems_of(text: str, root: Path) -> list[str]:
    """What is wrong with a paper map, one line each."""
    problems = []
    for row in rows_of(text):
        if len(row.cells) != len(HEADER):
            problems.append(f"{row.line}: expected {len(HEADER)} cells, got {len(row.cells)}")
            continue
        item, section, file, test, status = row.cells
        if not item:
            problems.append(f"{row.line}: item: expected words, got none")
        if not SECTION.fullmatch(section):
            problems.append(f"{row.line}: section: expected III-B or the like, got {section}")
        if status == "done":
            for kind, cell in (("file", file), ("test", test)):
                names = re.findall(r"`([^`]+)`", cell)
                if not names:
                    problems.append(f"{row.line}: {kind}: expected a file in backticks, got {cell}")
                for name in names:
                    if not (root / name).is_file():
                        problems.append(f"{row.line}: {kind}: expected a file, got {name}")
                    if kind == "test" and not re.search(r"_test\.(cc|py)$|_cosim\.cc$", name):
                        problems.append(f"{row.line}: test: expected a test, got {name}")
        elif status == "not yet":
            if (file, test) != ("-", "-"):
                problems.append(f"{row.line}: not yet: expected - and -, got {file} and {test}")
        else:
            problems.append(f"{row.line}: status: expected done or not yet, got {status}")
    return problems


def test_done_rows_name_files_that_exist_and_statuses_are_valid() -> None:
    text = (ROOT / "docs" / "paper-map.md").read_text()
    assert problems_of(text, ROOT) == []


def test_every_figure_table_footnote_and_section_has_a_row() -> None:
    rows = rows_of((ROOT / "docs" / "paper-map.md").read_text())
    items = "\n".join(row.cells[0] for row in rows)
    for figure in range(1, 14):
        assert re.search(rf"\bFig\. {figure}\b", items), f"Fig. {figure}"
    assert "Table I:" in items
    for footnote in range(1, 5):
        assert re.search(rf"[Ff]ootnote {footnote}\b", items), f"footnote {footnote}"
    sections = {row.cells[1] for row in rows}
    for section, letters in {"II": "ABC", "III": "BCDE", "IV": "ABCDE", "V": "ABCDE"}.items():
        for letter in letters:
            assert f"{section}-{letter}" in sections


# The numbers of the paper's own results and examples, as its text writes them.
NUMBERS = (
    "0.127 768 1024 4096 384 3.14 48 36 96 512 0.2 40 26 1.088 13 528 7.99 43.93 57 73 81 58.1 1.03"
    " 0.38 0.29 0.26 1.4 2.5 2.4 5.0 1.3 2.1 15.1 25.8 1.49 17.93 442 1265 1726 2093 1.85 2.76 3.72"
    " 5.96 8.04 8.3 6.4 27.8 20.9 8.0 38 64 1.7 5.5 6.7 5.4 45 14"
)


@pytest.mark.parametrize("number", NUMBERS.split())
def test_every_number_has_a_row(number: str) -> None:
    rows = rows_of((ROOT / "docs" / "paper-map.md").read_text())
    pattern = rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)"
    assert any(re.search(pattern, row.cells[0]) for row in rows)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("| a | III-B | `x.h` | `x_test.cc` | finished |", "status: expected done or not yet"),
        ("| a | III-B | `y.h` | `x_test.cc` | done |", "file: expected a file, got y.h"),
        ("| a | III-B | `x.h` | `y_test.cc` | done |", "test: expected a file, got y_test.cc"),
        ("| a | III-B | `x.h` | `x.h` | done |", "test: expected a test, got x.h"),
        ("| a | III-B | - | `x_test.cc` | done |", "file: expected a file in backticks, got -"),
        ("| a | III-B | `x.h` | - | done |", "test: expected a file in backticks, got -"),
        ("| a | III-B | `x.h` | - | not yet |", "not yet: expected - and -"),
        ("| a | VII | - | - | not yet |", "section: expected III-B or the like, got VII"),
        ("| | III-B | - | - | not yet |", "item: expected words"),
        ("| a | III-B | - | not yet |", "expected 5 cells, got 4"),
    ],
)
def test_a_broken_row_is_caught(tmp_path: Path, row: str, problem: str) -> None:
    (tmp_path / "x.h").touch()
    (tmp_path / "x_test.cc").touch()
    good = "| item | section | file | test | status |\n| --- | --- | --- | --- | --- |\n"
    good += "| a | III-B | `x.h` | `x_test.cc` | done |\n"
    assert problems_of(good, tmp_path) == []
    found = problems_of(good + row + "\n", tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"4: {problem}")
