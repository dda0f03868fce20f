"""Kernel objects hold nothing that other code could pick up, and only their target's instructions.

An inline function of the C++ library that is compiled into a kernel object for a newer processor
could be the copy that the linker keeps for everybody; it would then stop older processors. So all
that such an object defines is in its target's namespace, and it needs nothing of the C++ library.
"""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"

# Instructions by their mnemonic or registers, as objdump writes them.
YMM = r"%ymm"
ZMM = r"%zmm"
MASK = r"%k[0-7]"
VPOPCNT = r"\b(vpopcnt[bwdq]|vpdpbusds?|vpcompress[bw]|vperm[it]2b|vpermb)\b"
BF16 = r"\b(vdpbf16ps|vcvtneps2bf16|vcvtne2ps2bf16)\b"
FP16 = (
    r"\b(v(add|sub|mul|div|max|min|sqrt|fn?m(add|sub)(132|213|231))[ps]h|vcvtps2phx|vcvtph2psx)\b"
)
# Per target: what its kernels must use somewhere, what none may use.
TARGETS = {
    "portable": ([], [YMM, ZMM, MASK]),
    "avx2": ([YMM], [ZMM, MASK, VPOPCNT, BF16, FP16]),
    "avx512": ([ZMM, MASK], [VPOPCNT, BF16, FP16]),
    "avx512_vpopcnt": ([ZMM, MASK], [BF16, FP16]),
    "avx512_bf16": ([ZMM, MASK], [FP16]),
    "avx512_fp16": ([ZMM, MASK], []),
}

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the rules are about x86-64 objects"
)


def objects(target: str) -> list[Path]:
    """The kernel objects of a target, as the build leaves them."""
    return sorted((BUILD / "CMakeFiles" / f"elsa_cpu_{target}.dir").rglob("kernels/*.o"))


def symbols(path: Path) -> list[tuple[str, str]]:
    """(type, mangled name) of every symbol, as nm gives them."""
    lines = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    return [(f[-2], f[-1]) for f in map(str.split, lines.splitlines()) if len(f) >= 2]


@cache
def code(path: Path) -> str:
    """The disassembly."""
    command = ["objdump", "-d", "--no-show-raw-insn", "--no-addresses", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbol_faults(path: Path, target: str) -> list[str]:
    """What the object defines for others outside of its namespace, or needs of the C++ library."""
    space = f"_ZN4elsa3cpu{len(target)}{target}"
    faults = []
    for kind, name in symbols(path):
        defined = kind in "ABCDGRSTVWu"
        if defined and not name.startswith((space, space.replace("_ZN", "_ZNK"))):
            faults.append(f"{path.name}: defines {name} ({kind})")
        if kind in "Uw" and re.match(r"_ZN?K?S|_ZNK?9__gnu_cxx|_Zn|_Zd|__cxa|__gxx", name):
            faults.append(f"{path.name}: needs {name}")
    return faults


def instruction_faults(paths: list[Path], target: str) -> list[str]:
    """Instructions that the target lacks, or that its kernels should use and do not."""
    must, never = TARGETS[target]
    faults = []
    for path in paths:
        for pattern in never:
            found = re.search(rf"^.*{pattern}.*$", code(path), re.MULTILINE)
            if found:
                faults.append(f"{path.name}: {found[0].strip()}")
    for pattern in must:
        if not any(re.search(pattern, code(path)) for path in paths):
            faults.append(f"{target}: nothing uses {pattern}")
    return faults


@pytest.mark.parametrize("target", TARGETS)
def test_kernel_objects_define_only_what_is_their_targets(target: str) -> None:
    paths = objects(target)
    assert paths, f"{BUILD} holds no kernels of {target}: run `make native` first"
    assert [fault for path in paths for fault in symbol_faults(path, target)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_kernel_objects_use_only_what_their_target_has(target: str) -> None:
    assert instruction_faults(objects(target), target) == []


def compiled(folder: Path, text: str, *flags: str) -> Path:
    """A small kernel object."""
    (folder / "bad.cc").write_text(text)
    command = ["g++", "-O3", "-std=c++20", *flags, "-c", "bad.cc", "-o", "bad.o"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "bad.o"


SHARED = """
template <typename T> [[gnu::noinline]] T shared(T x) { return x * x; }
namespace elsa::cpu::avx2 {
extern const int kTable;
const int kTable = 1;
float Use(float x) { return shared(x); }
}
"""
LIBRARY = """
#include <string>
namespace elsa::cpu::avx2 { std::string Use(const char* x) { return std::string(x) + x; } }
"""
LOOP = """
namespace elsa::cpu::X { void Add(float* __restrict a, const float* b) {
  for (int i = 0; i < 1024; ++i) a[i] += b[i];
} }
"""


@pytest.mark.parametrize(("text", "fault"), [(SHARED, "defines _Z6shared"), (LIBRARY, "needs _ZS")])
def test_a_symbol_that_others_could_pick_up_is_caught(tmp_path, text, fault) -> None:
    faults = symbol_faults(compiled(tmp_path, text, "-mavx2"), "avx2")
    assert faults
    assert any(fault in line for line in faults), faults


@pytest.mark.parametrize(
    ("target", "flags", "fault"),
    [
        ("portable", ["-mavx2"], "%ymm"),
        ("avx2", ["-mavx512f", "-mprefer-vector-width=512"], "%zmm"),
        ("avx2", [], "avx2: nothing uses %ymm"),
        ("avx512", ["-mavx2"], "avx512: nothing uses %zmm"),
    ],
)
def test_instructions_of_another_target_are_caught(tmp_path, target, flags, fault) -> None:
    path = compiled(tmp_path, LOOP.replace("X", target), *flags)
    assert symbol_faults(path, target) == []
    assert any(fault in line for line in instruction_faults([path], target))
