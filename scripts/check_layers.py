#!/usr/bin/env python3
"""Checks src/elsa/ against layers.txt: which layer may include which, and what no layer may do.

Usage: scripts/check_layers.py [ROOT]      (default: the repository of this script)

For every file of src/elsa/<layer>/:
- it includes only its own layer and those that layers.txt allows to it;
- only io opens files;
- no layer prints, reads the environment, or ends the process.
Tests (x_test.cc, x_test.h, testing.h) are free from the last two rules: they may read files of the
checkout.
Prints one line per violation, "file:line: what: expected X, got Y"; exit 1 if there is any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*(<[^>]+>|"[^"]+")')
COMMENT_OR_LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/                     # comments
    |R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"      # raw strings
    |"(?:\\.|[^"\\\n])*"                     # strings
    |(?<!\w)'(?:\\.|[^'\\\n])+'""",  # characters, but not the ' of 1'000
    re.DOTALL | re.VERBOSE,
)

# (what, pattern of a use, headers that serve nothing else). A member function of the same name,
# x.open(...), is not a use.
_CALL = r"(?<![\w.>])(?:std\s*::\s*|::\s*)?(?:{})\s*\("
FILES = (
    "opening files",
    re.compile(_CALL.format("fopen|freopen|open|openat|creat|mmap|tmpfile") + r"|\b[io]?fstream\b"),
    {"fstream", "filesystem", "fcntl.h", "sys/mman.h", "dirent.h"},
)
PROCESS = (
    "printing, the environment, ending the process",
    re.compile(
        _CALL.format(
            "v?f?printf|puts|fputs|putchar|perror|getenv|secure_getenv|setenv|putenv|system"
            "|abort|exit|_exit|_Exit|quick_exit|terminate"
        )
        + r"|\bstd\s*::\s*(?:cout|cerr|clog)\b"
    ),
    {"iostream", "print", "syslog.h"},
)

# The C interface is declared beside the layers, in the header that C programs include.
PUBLIC_HEADERS = {("capi", "elsa/elsa_c.h")}

# The two exceptions, as (file, what it uses): the target can be forced from outside, and large
# buffers ask for large pages.
EXEMPT = {("cpu/target.cc", "std::getenv"), ("cpu/buffer.cc", "<sys/mman.h>")}


def read_layers(path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """layers.txt as {layer: layers it may use}, and what is wrong with it."""
    layers: dict[str, list[str]] = {}
    problems = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z]+):((?: +[a-z]+)*) *", line)
        if not match:
            problems.append(f"{path.name}:{number}: expected '<layer>: <layer> ...', got {line!r}")
            continue
        layer, uses = match[1], match[2].split()
        for used in uses:
            if used not in layers:  # a layer of a later line, itself, or none: cycles cannot arise
                problems.append(
                    f"{path.name}:{number}: {layer}: expected layers of earlier lines, got {used}"
                )
        layers[layer] = uses
    return layers, problems


def blank(text: str) -> str:
    """The text with comments and literals blanked, lines kept."""

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return COMMENT_OR_LITERAL.sub(spaces, text)


def check_include(header: str, layer: str, layers: dict[str, list[str]]) -> str | None:
    """What is wrong with an include of the layer, or None. `header` has its quotes or brackets."""
    name = header[1:-1]
    allowed = [layer, *layers[layer]]
    if not name.startswith("elsa/"):
        if header[0] == "<":
            return None
        return f"{layer}: include: expected elsa/<layer>/..., got {header}"
    if (layer, name) in PUBLIC_HEADERS:
        return None
    parts = name.split("/")
    if len(parts) >= 3 and parts[1] in allowed:
        return None
    return f"{layer}: include: expected a header of {', '.join(allowed)}, got {name}"


def check_file(path: Path, layer: str, layers: dict[str, list[str]]) -> Iterator[tuple[int, str]]:
    """Violations of one file as (line, message)."""
    text = path.read_text(errors="replace")
    is_test = path.stem.endswith(("_test", "testing"))
    rules = [] if is_test else [PROCESS] if layer == "io" else [FILES, PROCESS]
    # An include is looked for in the original line, but only where code is.
    lines = zip(text.split("\n"), blank(text).split("\n"), strict=True)
    for number, (line, code) in enumerate(lines, 1):
        include = INCLUDE.match(line) if code.lstrip().startswith("#") else None
        if include:
            problem = check_include(include[1], layer, layers)
            if problem:
                yield number, problem
        for what, use, headers in rules:
            found = use.search(code)
            if include and include[1][1:-1] in headers:
                used = include[1]
            elif found:
                used = found[0].strip(" (")
            else:
                continue
            if (f"{layer}/{path.name}", used) not in EXEMPT:
                yield number, f"{layer}: {what}: expected none, got {used}"


def check(root: Path) -> tuple[int, list[str]]:
    """Number of files looked at, and all violations."""
    layers, problems = read_layers(root / "layers.txt")
    source = root / "src" / "elsa"
    files = 0
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        layer = folder.name
        if layer not in layers:
            problems.append(f"{folder.relative_to(root)}: expected a line in layers.txt, got none")
            continue
        for path in sorted(folder.rglob("*")):
            if path.suffix not in {".h", ".cc"}:
                continue
            files += 1
            where = path.relative_to(root)
            problems += [
                f"{where}:{line}: {what}" for line, what in check_file(path, layer, layers)
            ]
    if files == 0:
        problems.append("src/elsa: expected source files, got none")
    return files, problems


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    files, problems = check(root)
    for problem in problems:
        print(problem)
    print(f"layers: {files} files, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
