"""What the inner loops of the CPU kernels cost by a model of the processor, without running them.

Takes the loops out of the objects of a release build and has llvm-mca (LLVM 16 or later) count
their cycles, all data in the first-level cache: a bound to compare measurements with, and the
only figure there is for processors that are not at hand.

    python3 bench/cpu/loops.py avx2 znver3
    python3 bench/cpu/loops.py avx512_fp16 sapphirerapids
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = r"vfmadd\w+ps|vmulps|vpmaddwd|vpdpwssd|vpmaddubsw|vpdpbusd|vpternlogq"


class Kernel(NamedTuple):
    """A loop: where it is, and how many units of work one turn does, by width of the vectors."""

    what: str
    unit: str
    source: str
    symbol: str
    avx2: tuple[int, int]  # products in the loop (PRODUCTS; 0: of the longest), units per turn
    avx512: tuple[int, int]


KERNELS = (
    Kernel("filter, k = 64", "pair", "select", r"FilterBlockOf<64>", (0, 256), (158, 1024)),
    Kernel("list", "pair", "sparse", r"::List\(", (0, 64), (0, 64)),
    Kernel("hash and norm", "row", "select", r"KroneckerRowsOf<.*RowType\)0>", (0, 1), (0, 1)),
    Kernel("scores, float32", "candidate", "sparse", r"ScoreSweep<64>", (64, 8), (32, 8)),
    Kernel("values, float32", "candidate", "sparse", r"::Values\(|ValueSweep<64>", (32, 4), (8, 2)),
    Kernel(
        "scores, 16 bits", "candidate", "sparse", r"::Scores16|ScoreSweep16<64>", (33, 8), (33, 8)
    ),
    Kernel("scores, 8 bits", "candidate", "sparse", r"::Scores8|ScoreSweep8<2>", (33, 8), (17, 8)),
    Kernel(
        "values, 16 bits", "candidate", "sparse", r"::Values16|ValueSweep16<64>", (8, 2), (4, 2)
    ),
    Kernel("softmax, 16 bits", "candidate", "sparse", r"Softmax16.*lambda", (0, 16), (0, 32)),
)


class Loop(NamedTuple):
    begin: int
    end: int
    body: list[str]

    def products(self) -> int:
        return sum(re.match(rf"(?:{PRODUCTS})\s", line) is not None for line in self.body)


def functions(path: Path) -> dict[str, list[tuple[int, str]]]:
    """The instructions of each function of an object, with their addresses."""
    command = ["objdump", "-d", "--no-show-raw-insn", "-C", str(path)]
    found: dict[str, list[tuple[int, str]]] = {}
    name = ""
    for line in subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            name = head[1]
        elif instruction := re.match(r"\s+([0-9a-f]+):\t(\S.*)$", line):
            found.setdefault(name, []).append((int(instruction[1], 16), instruction[2]))
    return found


def inner_loops(code: list[tuple[int, str]]) -> list[Loop]:
    loops = []
    for address, text in code:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        if jump and int(jump[1], 16) <= address:
            begin = int(jump[1], 16)
            body = [line for at, line in code if begin <= at <= address]
            loops.append(Loop(begin, address, body))
    return [
        loop
        for loop in loops
        if not any(o != loop and loop.begin <= o.begin and o.end <= loop.end for o in loops)
    ]


def cycles_per_turn(loop: Loop, mca: str, model: str) -> float:
    lines = []
    for line in loop.body:
        line = re.sub(r"\s*[#<].*", "", line)
        lines.append(re.sub(r"^(j\w+)\s.*", r"\1 1f", line))
    turns = 200
    done = subprocess.run(
        [mca, f"-mcpu={model}", f"-iterations={turns}"],
        input="\n".join(lines) + "\n1:\n",
        capture_output=True,
        text=True,
    )
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if not total:
        sys.exit(f"loops: {mca}: {(done.stderr or 'no result').splitlines()[0]}")
    return int(total[1]) / turns


def find(kernel: Kernel, objects: Path, wide: bool) -> tuple[Loop, int] | None:
    """The kernel's loop and its units per turn."""
    products, units = kernel.avx512 if wide else kernel.avx2
    loops = [
        loop
        for name, code in functions(objects / f"{kernel.source}.cc.o").items()
        if re.search(kernel.symbol, name)
        for loop in inner_loops(code)
        if products in (0, loop.products())
    ]
    if not loops:
        return None
    choose = max if products == 0 else min  # the shortest holds nothing else
    return choose(loops, key=lambda loop: len(loop.body)), units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="of the kernels: avx2, avx512, avx512_vpopcnt, ...")
    parser.add_argument(
        "model", help="of the processor: znver3, sapphirerapids, ... (llvm-mca -mcpu)"
    )
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    args = parser.parse_args()
    mca = next((m for m in ("llvm-mca-19", "llvm-mca-16", "llvm-mca") if shutil.which(m)), None)
    if mca is None:
        sys.exit("loops: llvm-mca is missing; Debian's package llvm-16 has it")
    objects = args.build / f"CMakeFiles/elsa_cpu_{args.target}.dir/src/elsa/cpu/kernels"
    if not objects.is_dir():
        sys.exit(
            f"loops: {objects}: expected the objects of a build, found nothing; run make build"
        )
    print(f"| {args.target} on {args.model}, d = 64 | cycles | a | stack |")
    print("| --- | --- | --- | --- |")
    for kernel in KERNELS:
        found = find(kernel, objects, args.target.startswith("avx512"))
        if found is None:
            print(f"| {kernel.what} | loop not found | {kernel.unit} | |")
            continue
        loop, units = found
        cycles = cycles_per_turn(loop, mca, args.model) / units
        spills = sum("(%rsp" in line or "(%rbp" in line for line in loop.body)
        print(f"| {kernel.what} | {cycles:.3g} | {kernel.unit} | {spills} |")


if __name__ == "__main__":
    main()
