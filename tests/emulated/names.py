"""Writes avx512_names.h: a name of its own for each intrinsic that the headers here define."""

import re
from pathlib import Path

HERE = Path(__file__).parent
MACROS = "UNARY|BINARY|MASK_BINARY|MASKZ_BINARY|SHIFT|TEST|MASK_TEST|CAST|MASKED_MEMORY|UNPACK"
INTRINSIC = r"_mm\d*_[a-z0-9_]+"
HEAD = """\
// Every emulated intrinsic gets a name of its own, so that it does not meet the compiler's function
// of the same name; sources keep writing _mm512_... Made by tests/emulated/names.py.
#ifndef ELSA_TESTS_EMULATED_AVX512_NAMES_H_
#define ELSA_TESTS_EMULATED_AVX512_NAMES_H_

#include <immintrin.h>

"""


def defined_names(text: str) -> set[str]:
    """The intrinsics that a header defines, as functions or by its macros."""
    names = set(re.findall(rf"ELSA_EMULATED\s+[\w:]+\s+({INTRINSIC})\(", text))
    for call in re.finditer(rf"^ELSA_(?:{MACROS})\(([^)]*)\)", text, re.MULTILINE):
        names |= set(re.findall(INTRINSIC, call[1]))
    return names


def main() -> None:
    names = set()
    for header in ("avx512.h", "avx512_extensions.h"):
        names |= defined_names((HERE / header).read_text())
    lines = [f"#undef {name}\n#define {name} elsa{name}\n" for name in sorted(names)]
    tail = "\n#endif  // ELSA_TESTS_EMULATED_AVX512_NAMES_H_\n"
    (HERE / "avx512_names.h").write_text(HEAD + "".join(lines) + tail)


if __name__ == "__main__":
    main()
