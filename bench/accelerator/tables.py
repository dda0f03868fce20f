"""Tables of docs/reference/accelerator-results.md from the raw JSON of each section."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import quality
from runs import QUEUES, SWEEP, WORKLOADS

# Sec. V-C, V-D and V-E: data/paper/evaluation.toml.
PAPER_LATENCY = {"base": 1.03, "conservative": 0.38, "moderate": 0.29, "aggressive": 0.26}
PAPER_ENERGY = {"base": 442, "conservative": 1265, "moderate": 1726, "aggressive": 2093}
GROUPS = (
    "hash_and_norm",
    "candidate_selection",
    "attention",
    "internal_memory",
    "external_memory",
)
# Why a bank issues no candidate. The query buffers are full because another bank is not as far.
REASONS = {
    "uneven banks": ("other_banks", "query_buffer", "queue_full"),
    "scan": ("selection",),
    "division": ("division",),
    "preprocessing": ("phase",),
    "rest": ("fill", "hash", "sums", "done"),
}


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> list[str]:
    """A Markdown table; floats must be formatted. The first `left` columns are words."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return ["| " + " | ".join(map(str, row)) + " |" for row in (header, rule, *rows)]


def percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f} %"


def loss_table(folder: Path) -> list[str]:
    rows = []
    for workload, rule in quality.GRID:
        path = folder / f"quality-{workload}-{rule}.json"
        chosen = quality.choose(folder, workload, rule)
        for row in json.loads(path.read_text())["rows"]:
            names = [name for name, other in chosen.items() if other["p"] == row["p"]]
            low, high = row["metric_change_relative_interval"]
            change = (
                f"{100 * row['metric_change_relative']:+.2f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            )
            rows.append(
                [
                    workload,
                    rule,
                    f"{row['p']:g}",
                    f"{row['kept_fraction']:.3f}",
                    f"{row['mass_kept']:.3f}",
                    change if workload != "long" else "-",
                    f"{row['fidelity']:.4f}",
                    ", ".join(names) or "-",
                ]
            )
    header = ["input", "rule", "p", "kept", "mass", "metric % [95 %]", "fidelity", "chosen as"]
    return table(header, rows, 2)


def _groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows by (workload, rule), the base first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for workload in WORKLOADS:
        base = [r for r in rows if r["workload"] == workload and r["configuration"] == "base"]
        for rule in quality.RULES:
            own = [r for r in rows if r["workload"] == workload and r["rule"] == rule]
            groups[workload, rule] = base + own
    return groups


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def latency_table(raw: dict[str, Any]) -> list[str]:
    rows, by_rule = [], {rule: [] for rule in quality.RULES}
    for (workload, rule), group in _groups(raw["rows"]).items():
        over = [r["cycles"] / r["ideal_cycles"] for r in group]
        without = [(r["cycles"] - r["preprocess_cycles"]) / r["ideal_cycles"] for r in group]
        by_rule[rule].append(over)
        cells = [
            f"{a:.2f} ({b:.2f}) at {r['kept_fraction']:.3f}"
            for a, b, r in zip(over[1:], without[1:], group[1:], strict=True)
        ]
        rows.append([workload, rule, f"{over[0]:.3f}", *cells])
    for rule, all_over in by_rule.items():
        means = [_mean(column) for column in zip(*all_over, strict=True)]
        cells = [f"{means[0]:.3f}", *(f"{m:.2f}" for m in means[1:])]
        rows.append(["geometric mean", rule, *cells])
    rows.append(["the paper", "paper", *(f"{v:.2f}" for v in PAPER_LATENCY.values())])
    return table(["input", "rule", *PAPER_LATENCY], rows, 2)


def reason_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for row in raw["rows"]:
        ideal = row["ideal_cycles"]
        idle = row["attention_cycles"]
        banks = sum(idle.values()) / row["cycles"]
        reasons = [
            sum(idle.get(cause, 0) for cause in causes) / banks / ideal
            for causes in REASONS.values()
        ]
        work = idle["busy"] / banks / ideal
        rows.append(
            [
                row["workload"],
                row["rule"],
                row["configuration"],
                f"{row['p']:g}" if "p" in row else "0",
                f"{row['kept_fraction']:.3f}",
                f"{work:.3f}",
                *(f"{r:.3f}" for r in reasons),
                f"{row['cycles'] / ideal:.3f}",
            ]
        )
    header = ["input", "rule", "configuration", "p", "kept", "work", *REASONS, "all"]
    return table(header, rows, 3)


def energy_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for (workload, rule), group in _groups(raw["rows"]).items():
        base = group[0]["energy_pj"]["total"]
        for row in group if rule == "paper" else group[1:]:
            energy = row["energy_pj"]
            name = row["configuration"]
            rows.append(
                [
                    workload,
                    row["rule"],
                    name,
                    f"{energy['total'] / row['operations'] / 1e6:.2f}",
                    *(percent(energy["groups"][g] / base) for g in GROUPS),
                    percent(energy["total"] / base),
                    f"{base / energy['total']:.2f}",
                    f"{PAPER_ENERGY[name] / PAPER_ENERGY['base']:.2f}",
                ]
            )
    names = [g.replace("_", " ") for g in GROUPS]
    header = ["input", "rule", "configuration", "uJ a head", *names, "all", "gain", "paper"]
    return table(header, rows, 3)


def machine_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for workload, content in raw.items():
        if workload == "environment":
            continue
        machines = {m["machine"]: m for m in content["machines"]}
        ideal, base = machines["ideal"]["cycles"], machines["base"]["cycles"]
        for name, m in machines.items():
            if m["cycles"] == 0:
                continue
            after = m["cycles"] - m["preprocess_cycles"]
            mass = 1 if m["kept_pairs"] == m["pairs"] else m["mass_kept"]
            rows.append(
                [
                    workload,
                    name,
                    m["model"],
                    f"{m['kept_pairs'] / m['pairs']:.3f}",
                    f"{mass:.3f}",
                    f"{m['cycles'] / ideal:.2f}",
                    f"{after / ideal:.2f}",
                    f"{base / m['cycles']:.2f}",
                    f"{base / after:.2f}",
                ]
            )
    header = ["input", "machine", "time is", "kept", "mass kept", "over ideal", "without its "]
    header[-1] += "preprocessing"
    return table([*header, "speed-up over base", "without preprocessing"], rows, 3)


def a3_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for workload, content in raw.items():
        if workload == "environment":
            continue
        m = {machine["machine"]: machine for machine in content["machines"]}
        own, base, elsa = m["a3-base"]["cycles"], m["base"]["cycles"], m["elsa"]["cycles"]
        for name in ("a3", "a3-aggressive"):
            whole = m[name]["cycles"]
            search = whole - m[name]["preprocess_cycles"]
            moderate = content["moderate"]
            rows.append(
                [
                    workload,
                    name,
                    f"{own / whole:.2f}, {own / search:.2f}",
                    f"{base / elsa:.2f}",
                    f"{base / moderate['cycles']:.2f} (p = {moderate['p']:g})",
                    f"{whole / elsa:.2f}, {search / elsa:.2f}",
                    f"{whole / moderate['cycles']:.2f}, {search / moderate['cycles']:.2f}",
                ]
            )
    rows.append(["the paper", "a3", "1.85", "2.76", "3.72", "5.96", "8.04"])
    header = ["input", "setting", "A3 over its base", "ELSA over its base, p = 1", "moderate"]
    return table([*header, "ELSA over A3, p = 1", "moderate"], rows, 2)


def _at(rows: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def selector_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for rule, p in dict.fromkeys((row["rule"], row["p"]) for row in raw["rows"]):
        usual = _at(raw["rows"], rule=rule, p=p, queue_depth=16, query_buffers=4)
        paper = _at(usual, selectors_per_bank=8)[0]
        for row in usual:
            waits = row["stall_cycles"]
            rows.append(
                [
                    rule,
                    f"{p:g}",
                    f"{row['kept_fraction']:.3f}",
                    row["selectors_per_bank"],
                    f"{row['cycles'] / paper['cycles']:.3f}",
                    percent(waits.get("selection", 0) / row["cycles"], 0),
                    percent(waits.get("phase", 0) / row["cycles"], 0),
                    f"{row['area_mm2']:.3f}",
                    f"{row['peak_power_mw']:.0f}",
                    f"{row['energy_pj'] / paper['energy_pj']:.3f}",
                ]
            )
    header = ["rule", "p", "kept", "P_c", "cycles", "scan", "preprocessing", "mm2", "mW", "energy"]
    return table(header, rows, 1)


def depth_table(raw: dict[str, Any]) -> list[str]:
    """Rows: rule, p, P_c. Cells: cycles over those of the deepest queues with most buffers."""
    rows = []
    pairs = [
        (1, 2),
        (1, 4),
        (2, 2),
        (2, 3),
        (2, 4),
        (4, 2),
        (4, 3),
        (4, 4),
        (8, 4),
        (16, 4),
        (16, 8),
    ]
    keys = dict.fromkeys((r["rule"], r["p"], r["selectors_per_bank"]) for r in raw["rows"])
    for rule, p, selectors in keys:
        group = _at(raw["rows"], rule=rule, p=p, selectors_per_bank=selectors)
        best = _at(group, queue_depth=32, query_buffers=16)[0]["cycles"]
        cells = [_at(group, queue_depth=d, query_buffers=b)[0]["cycles"] / best for d, b in pairs]
        rows.append([rule, f"{p:g}", selectors, *(f"{c:.3f}" for c in cells)])
    return table(["rule", "p", "P_c", *(f"{d}, {b}" for d, b in pairs)], rows, 1)


def queue_table(raw: dict[str, Any]) -> list[str]:
    """Cycles over those of the defaults, the last column."""
    rows = []
    for row in raw["rows"]:
        cells = [f"{cycles / row['cycles'][-1]:.3f}" for cycles in row["cycles"]]
        rows.append([row["workload"], row["rule"], row["configuration"], f"{row['p']:g}", *cells])
    header = ["input", "rule", "configuration", "p", *(f"{d}, {b}" for d, b in QUEUES)]
    return table(header, rows, 3)


def balance_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for rule, p in dict.fromkeys((row["rule"], row["p"]) for row in raw["rows"]):
        group = _at(raw["rows"], rule=rule, p=p)
        paper = _at(group, selectors_per_bank=8, queue_depth=16, query_buffers=4)[0]
        fastest = min(row["cycles"] for row in group)
        near = [row for row in group if row["cycles"] <= 1.02 * fastest]
        goals = {
            "fastest within 2 %, least area": min(near, key=lambda r: r["area_mm2"]),
            "least area x cycles": min(group, key=lambda r: r["area_mm2"] * r["cycles"]),
            "least energy x cycles": min(group, key=lambda r: r["energy_pj"] * r["cycles"]),
        }
        for goal, row in goals.items():
            rows.append(
                [
                    rule,
                    f"{p:g}",
                    goal,
                    *(row[name] for name in SWEEP),
                    f"{row['cycles'] / paper['cycles']:.3f}",
                    f"{row['area_mm2'] - paper['area_mm2']:+.3f}",
                    f"{row['peak_power_mw'] - paper['peak_power_mw']:+.0f}",
                    f"{row['energy_pj'] / paper['energy_pj']:.3f}",
                ]
            )
    header = ["rule", "p", "goal", "P_c", "depth", "buffers", "cycles", "mm2", "mW", "energy"]
    return table(header, rows, 3)


def speed_table(raw: dict[str, Any]) -> list[str]:
    rows = []
    for name, run in raw["runs"].items():
        error = run.get("output_rel_l2")
        rows.append(
            [
                name,
                f"{run['cycles']}" if "cycles" in run else "-",
                f"{run['kept_fraction']:.3f}" if "cycles" in run else "-",
                "-" if error is None else f"{error:.3f}",
                f"{run['seconds']:.1f}",
            ]
        )
    return table(["run", "cycles", "kept", "output_rel_l2", "processor s"], rows)


def cpu_table(cpu: dict[str, Any], latency: dict[str, Any]) -> list[str]:
    """Gains are over torch's fastest round."""
    rows = []
    for workload, seconds in cpu["seconds_per_head"].items():
        runs = [r for r in latency["rows"] if r["workload"] == workload]
        base = [r for r in runs if r["configuration"] == "base"]
        chosen = [r for r in runs if r["configuration"] == "conservative"]
        least, median = 1e6 * seconds["least"], 1e6 * seconds["median"]
        for row in base + chosen:
            one = row["cycles"] / row["operations"] / 1000
            many = 1e6 * row["makespan_s"] / row["operations"]
            name = row["configuration"] + (", mean row" if row["rule"] == "mean" else "")
            rows.append(
                [
                    workload,
                    name,
                    f"{least:.0f}",
                    f"{median:.0f}",
                    f"{one:.2f}",
                    f"{least / one:.0f}",
                    f"{many:.3f}",
                    percent(row["utilisation"], 0),
                    f"{least / many:.0f}",
                ]
            )
    header = ["input", "configuration", "torch fastest us", "median", "one us", "gain"]
    return table([*header, "twelve us", "used", "gain"], rows, 2)


TABLES: dict[str, tuple[tuple[str, ...], Callable[..., list[str]]]] = {
    "latency": (("latency",), latency_table),
    "reasons": (("latency",), reason_table),
    "energy": (("latency",), energy_table),
    "machines": (("machines",), machine_table),
    "a3": (("machines",), a3_table),
    "selectors": (("sweep",), selector_table),
    "depth": (("sweep",), depth_table),
    "queues": (("queues",), queue_table),
    "balance": (("sweep",), balance_table),
    "speed": (("speed",), speed_table),
    "cpu": (("cpu", "latency"), cpu_table),
}
