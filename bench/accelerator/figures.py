"""The accelerator on real heads: makes traces, measures, writes the tables of the results page.

    .venv/bin/python bench/accelerator/figures.py --reactions example_rxns.csv
    .venv/bin/python bench/accelerator/figures.py --only latency,energy

Raw JSON goes to out/accelerator/, tables between the markers of docs/reference/
accelerator-results.md. What is there already is used again; --only measures sections anew.
example_rxns.csv is the file of that name in rxnmapper's repository; without it the few reactions
in the installed package are used, which are short.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import cpu  # noqa: E402
import quality  # noqa: E402
import runs  # noqa: E402
import tables  # noqa: E402
import traces  # noqa: E402

SECTIONS = ("quality", "speed", "latency", "machines", "sweep", "queues", "cpu")
PAGE = ROOT / "docs" / "reference" / "accelerator-results.md"


def main() -> None:
    args = _arguments()
    folder = Path(args.out)
    bench = runs.Bench(args.elsa, folder, traces.make(folder / "traces", args.reactions))
    for section in SECTIONS:
        if args.only and section not in args.only:
            continue
        if section == "quality":
            quality.measure(folder, args.reactions)
        elif args.only or not bench.raw(section).exists():
            inputs = {name: bench.traces[name]["evaluation"] for name in runs.WORKLOADS}
            measured = cpu.measure(inputs) if section == "cpu" else getattr(runs, section)(bench)
            measured["environment"] = runs.environment()
            bench.raw(section).write_text(json.dumps(measured, indent=1), encoding="utf-8")
    _write_page(bench)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elsa", type=Path, default=ROOT / "build" / "release" / "elsa")
    parser.add_argument("--reactions", metavar="FILE", help="reactions, as elsa evaluate --data")
    parser.add_argument("--out", default=ROOT / "out" / "accelerator", metavar="DIR")
    parser.add_argument("--only", metavar="SECTION,...", help=", ".join(SECTIONS))
    args = parser.parse_args()
    args.only = args.only.split(",") if args.only else []
    for name in args.only:
        if name not in SECTIONS:
            parser.error(f"--only: expected {', '.join(SECTIONS)}, got {name}")
    return args


def _write_page(bench: runs.Bench) -> None:
    page = PAGE.read_text(encoding="utf-8")
    contents = {}
    if all(bench.raw(f"quality-{workload}-{rule}").exists() for workload, rule in quality.GRID):
        contents["losses"] = tables.loss_table(bench.folder)
    for name, (sections, make) in tables.TABLES.items():
        if all(bench.raw(section).exists() for section in sections):
            raw = [json.loads(bench.raw(s).read_text(encoding="utf-8")) for s in sections]
            contents[name] = make(*raw)
    for name, lines in contents.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text = "\n".join(lines)
        page, found = re.subn(pattern, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.S)  # noqa: B023
        if found != 1:
            raise ValueError(f"{PAGE.name}: expected one place for table {name}, got {found}")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
