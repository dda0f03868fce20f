"""Runs of the `elsa` command on the traces, and the raw JSON of each section.

Times of commands are processor time of one thread, which other work on the computer hardly changes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quality

# The paper's machine cut to the 32 components of the models at hand. Our choice: a hash takes 2
# cycles and a division 4. Its ideal accelerator has 4 x 64 + 8 = 264 multipliers.
SMALL_MACHINE = ("--d", "32", "--hash-multipliers", "320", "--division-multipliers", "8")
MACHINES = {"large": (), "few": (), "long": SMALL_MACHINE, "documents": SMALL_MACHINE}
MACHINES["reactions"] = SMALL_MACHINE
WORKLOADS = ("large", "long", "documents", "reactions")
CONFIGURATIONS = tuple(quality.BOUNDS)


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    elsa: Path
    folder: Path
    traces: dict[str, dict[str, Path]]

    def raw(self, section: str) -> Path:
        """The raw JSON of a section."""
        return self.folder / f"{section}.json"

    def plan(self, workload: str, p: float) -> Path:
        """The plan of the paper's rule, learned on the workload's calibration trace."""
        path = self.folder / "plans" / f"{workload}-p{p:g}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            trace = self.traces[workload]["calibration"]
            self.run("calibrate", str(trace), "--p", f"{p:g}", "-o", str(path), "--json")
        return path

    def simulate(
        self, workload: str, p: float | None, rule: str, *options: str
    ) -> tuple[dict[str, Any], float]:
        """`elsa simulate` on the evaluation trace, without layers, and its processor seconds."""
        arguments = ["simulate", str(self.traces[workload]["evaluation"]), *MACHINES[workload]]
        if p is not None:
            arguments += ["--plan", str(self.plan(workload, p)), "--plan-remainder", _PLAN[rule]]
        if rule == "mean":
            arguments += ["--remainder", "mean"]
        result, seconds = self.run(*arguments, "--no-advice", "--json", *options)
        result.pop("layers")
        result["attention_cycles"] = result.pop("modules")["attention_unit"]["cycles"]
        return result, seconds

    def run(self, *arguments: str) -> tuple[dict[str, Any], float]:
        """The command's JSON and its processor seconds."""
        print(" ".join(["elsa", *arguments]), file=sys.stderr, flush=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([self.elsa, *arguments], stdout=subprocess.PIPE, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return json.loads(done.stdout), seconds


_PLAN = {"paper": "none", "mean": "mean"}


def speed(bench: Bench) -> dict[str, Any]:
    """Processor seconds of one thread for an input of BERT-large's size."""
    one = ("--threads", "1")
    runs = {}
    for name, p in (("base", None), ("p = 1", 1.0)):
        for values in (False, True):
            options = (*one, "--values") if values else one
            result, seconds = bench.simulate("large", p, "paper", *options)
            runs[f"{name}{', values' if values else ''}"] = {
                "seconds": seconds,
                "cycles": result["cycles"],
                "kept_fraction": result["kept_fraction"],
                "output_rel_l2": result.get("output_rel_l2"),
            }
    trace = bench.traces["large"]["evaluation"]
    _, seconds = bench.run("attend", str(trace), "--json", *one)
    # attend runs the exact reference three times: for the output, for the mass, to compare with.
    runs["exact reference in double"] = {"seconds": seconds / 3}
    return {"runs": runs}


def latency(bench: Bench) -> dict[str, Any]:
    """Every workload, rule and configuration: cycles, causes, energy."""
    rows = []
    for workload in WORKLOADS:
        base, _ = bench.simulate(workload, None, "paper", "--machine", "base,ideal")
        ideal = base["machines"][1]["cycles"]
        common = {"workload": workload, "ideal_cycles": ideal}
        rows.append({**common, "rule": "-", "configuration": "base", **_kept(base)})
        for rule in quality.RULES:
            for name, chosen in quality.choose(bench.folder, workload, rule).items():
                p = chosen["p"]
                result, _ = bench.simulate(workload, p, rule)
                rows.append(
                    {**common, "rule": rule, "configuration": name, "p": p, **_kept(result)}
                )
    return {"rows": rows}


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    names = (
        "digest operations cycles preprocess_cycles stall_cycles attention_cycles candidates pairs "
        "kept_fraction energy_pj utilisation makespan_s longest_queue"
    )
    return {name: result[name] for name in names.split()}


def machines(bench: Bench) -> dict[str, Any]:
    """All machines on the same heads at p = 1."""
    tables = {}
    for workload in ("large", "long", "reactions"):
        result, _ = bench.simulate(workload, 1.0, "paper", "--machine", "all", "--values")
        for machine in result["machines"]:
            machine.pop("notes")
        tables[workload] = {
            "digest": result["digest"],
            "machines": result["machines"],
        }
        choice = quality.choose(bench.folder, workload, "paper")["moderate"]["p"]
        moderate, _ = bench.simulate(workload, choice, "paper")
        tables[workload]["moderate"] = {"p": choice, "cycles": moderate["cycles"]}
    return tables


SWEEP = {
    "selectors_per_bank": (4, 8, 16, 32),
    "queue_depth": (1, 2, 4, 8, 16, 32),
    "query_buffers": (2, 3, 4, 8, 16),
}
SWEEP_P = {"paper": (1.0, 2.0), "mean": (1.0, 2.0, 4.0, 8.0)}


def sweep(bench: Bench) -> dict[str, Any]:
    """Selectors, queues and buffers around the paper's machine: cycles, area, power, energy."""
    rows = []
    for rule, ps in SWEEP_P.items():
        for p in ps:
            for values in _grid(rule):
                options = [
                    text
                    for name, value in zip(SWEEP, values, strict=True)
                    for text in ("--" + name.replace("_", "-"), str(value))
                ]
                result, _ = bench.simulate("few", p, rule, *options)
                rows.append(
                    {
                        "rule": rule,
                        "p": p,
                        **dict(zip(SWEEP, values, strict=True)),
                        "cycles": result["cycles"],
                        "preprocess_cycles": result["preprocess_cycles"],
                        "stall_cycles": result["stall_cycles"],
                        "kept_fraction": result["kept_fraction"],
                        "longest_queue": result["longest_queue"],
                        "area_mm2": result["area_mm2"]["total"],
                        "peak_power_mw": result["peak_power_mw"]["total"],
                        "energy_pj": result["energy_pj"]["total"],
                    }
                )
    return {"rows": rows}


def _grid(rule: str) -> list[tuple[int, int, int]]:
    """All of SWEEP with the mean row; with the paper's rule only as many selectors as it has."""
    p_c, depths, buffers = SWEEP.values()
    return [(s, d, b) for s in p_c for d in depths for b in buffers if rule == "mean" or s == 8]


QUEUES = ((1, 4), (2, 4), (4, 2), (4, 3), (4, 4), (4, 6), (16, 4))  # depth, buffers


def queues(bench: Bench) -> dict[str, Any]:
    """Whether all workloads could do with shorter queues and fewer query buffers."""
    rows = []
    for workload in WORKLOADS:
        for rule in quality.RULES:
            for name, chosen in quality.choose(bench.folder, workload, rule).items():
                if name == "moderate":
                    continue
                cycles = []
                for depth, buffers in QUEUES:
                    options = ("--queue-depth", str(depth), "--query-buffers", str(buffers))
                    result, _ = bench.simulate(workload, chosen["p"], rule, *options)
                    cycles.append(result["cycles"])
                row = {"workload": workload, "rule": rule, "configuration": name}
                rows.append({**row, "p": chosen["p"], "cycles": cycles})
    return {"rows": rows}


def environment() -> dict[str, Any]:
    """The computer, as far as times depend on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    return {"processor": model, "processors": os.cpu_count(), "load": os.getloadavg()}
