"""Programs of tests/CMakeLists.txt that print the C++ side of a comparison."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def json_lines(program: str, first_seed: int, count: int) -> list[dict]:
    """The objects that a program prints for seeds, a line each.

    It lies in $ELSA_BUILD_DIR (build/release of this checkout) and is built when missing or old.
    """
    folder = Path(os.environ.get("ELSA_BUILD_DIR", ROOT / "build/release"))
    build = ["cmake", "--build", str(folder), "--target", program]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    done = subprocess.run(
        [str(folder / "tests" / program), str(first_seed), str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
