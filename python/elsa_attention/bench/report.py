"""The results of a run as text: a table per case, a summary, losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elsa_attention.bench.cases import PRECISIONS

Result = dict[str, Any]


def case_table(result: Result) -> str:
    """All contestants of one case; speed-ups are medians of paired ratios."""
    base, base_any = result["fastest_peer"]["float32"], result["fastest_peer"]["any"]
    rate, unit = ("exact_gflop_per_s", "GFLOP/s")
    if result["kind"] == "decode":
        rate, unit = ("cache_gbyte_per_s", "cache GB/s")
    head = ["", "ms", "10-90 %", unit, "kept", "heads by plan", "error", f"x {base}"]
    if base_any != base:
        head.append(f"x {base_any}")
    head.append("x exact")
    rows = [head]
    for entry in result["contestants"]:
        row = [
            entry["name"],
            f"{entry['median_s'] * 1e3:.3f}",
            f"{entry['p10_s'] * 1e3:.3f}-{entry['p90_s'] * 1e3:.3f}",
            f"{entry[rate]:.1f}",
            f"{entry['kept_fraction']:.3f}" if "kept_fraction" in entry else "",
            _by_plan(entry),
            f"{entry['error_rel_l2']:.0e}",
        ]
        others = [base] + ([base_any] if base_any != base else []) + ["exact"]
        row += [_spread_text(ratio(result, entry["name"], other)) for other in others]
        rows.append(row)
    lines = [_title(result), *_aligned(rows)]
    for wrong in result["wrong"]:
        lines.append(f"  WRONG {wrong['name']}: {_why_wrong(wrong)}")
    lines += [f"  without {e['name']}: {e['reason']}" for e in result["left_out"]]
    return "\n".join(lines)


def ratio(result: Result, mine: str, other: str | None) -> dict[str, float] | None:
    """The paired ratio of a case: time of `other` over time of `mine`; None if not measured."""
    for entry in result["ratios"]:
        if entry["ours"] == mine and entry["other"] == other:
            return entry
    return None


def summary(results: Sequence[Result]) -> str:
    """Markdown tables, one per precision of ours: a line per case, speed-ups over the fastest
    float32 peer, and over the fastest of any precision where that is another."""
    tables = []
    for precision in PRECISIONS:
        for against in ("float32", "any"):
            chosen = [r for r in results if against == "float32" or _has_faster_peer(r)]
            rows = _summary_rows(chosen, precision, against)
            if rows:
                word = "float32 peer" if against == "float32" else "peer of any precision"
                tables.append(f"{precision}: times as fast as the fastest {word}\n\n{rows}")
    return "\n\n".join(tables)


def _has_faster_peer(result: Result) -> bool:
    return result["fastest_peer"]["any"] != result["fastest_peer"]["float32"]


def _summary_rows(results: Sequence[Result], precision: str, against: str) -> str:
    names = _our_names(results, precision)
    if not names:
        return ""
    rows = [["case", "fastest peer, ms", *names], ["---"] * (len(names) + 2)]
    for result in results:
        base = result["fastest_peer"][against]
        times = {entry["name"]: entry["median_s"] for entry in result["contestants"]}
        row = [result["name"], f"{base} {times[base] * 1e3:.3g}" if base else "none"]
        for name in names:
            found = ratio(result, name, base)
            row.append(f"{found['median']:.2f}" if found else "")
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def losses(results: Sequence[Result]) -> list[str]:
    """Where ours is slower than the fastest peer of its precision, or than our exact mode."""
    lines = []
    for result in results:
        for entry in result["contestants"]:
            if not entry["ours"]:
                continue
            base = "float32" if entry["precision"] == "float32" else "any"
            exact = "exact" if base == "float32" else "exact-16bit"
            for other in dict.fromkeys((result["fastest_peer"][base], exact)):
                found = ratio(result, entry["name"], other)
                if found and found["median"] < 1:
                    spread = f"{found['median']:.2f} ({found['p10']:.2f}-{found['p90']:.2f})"
                    lines.append(f"{result['name']}: {entry['name']} is {spread} x {other}")
    return lines


def header(found: dict[str, Any]) -> str:
    """Where this is measured, and what is missing."""
    place = found["environment"]
    versions = ", ".join(f"{name} {v}" for name, v in place["versions"].items())
    lines = [
        f"{place['cpu']}, {place['cores']} cores, target {place['target']}; "
        f"{' '.join(place['cpu_flags'])}",
        f"{versions}, Python {place['python']}",
        f"load average {place['load_average']:.1f}; {found['command']}",
    ]
    if found["clock"] == "cpu":
        lines.append("times are processor time of one thread")
    if place["variables"]:
        lines.append(" ".join(f"{n}={v}" for n, v in place["variables"].items()))
    lines += [
        f"absent: {entry['name']}; to get it: {entry['install']}" for entry in found["absent"]
    ]
    return "\n".join(lines)


def closing(found: dict[str, Any]) -> str:
    """The summary, then every loss."""
    slower = "\n".join(f"slower: {line}" for line in found["losses"]) or "slower: nowhere"
    return f"\n{summary(found['cases'])}\n\n{slower}"


def whole(found: dict[str, Any]) -> str:
    """All that a run prints."""
    tables = "".join(f"\n\n{case_table(result)}" for result in found["cases"])
    return f"{header(found)}{tables}\n{closing(found)}"


def _title(result: Result) -> str:
    heads = f"{result['heads']} heads"
    if result["kv_heads"] != result["heads"]:
        heads += f" on {result['kv_heads']}"
    what = {
        "random": f"random, n = {result['n_k']}",
        "traces": f"{result['model']}, {result['calls']} calls, n <= {result['n_k']}",
        "decode": f"decode, {result['n_k']} keys",
    }[result["kind"]]
    causal = ", causal" if result["causal"] else ""
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    title = f"{what}, d = {result['d']}, {heads}{causal}, {threads}, {result['rounds']} rounds"
    if "read_gbyte_per_s" in result:
        title += f"; the cache is read at {result['read_gbyte_per_s']:.1f} GB/s"
    return title


def _why_wrong(wrong: dict[str, Any]) -> str:
    if "reason" in wrong:
        return wrong["reason"]
    if not wrong["finite"]:
        return "expected finite results, got infinity or NaN"
    return f"expected an error of at most {wrong['tolerance']:g}, got {wrong['error_rel_l2']:.3g}"


def _by_plan(entry: Result) -> str:
    """How many heads were computed by the plan; the others were as fast exactly."""
    if "@" not in entry["name"] or not entry["ours"]:
        return ""
    return f"{entry['paths'].get('selected', 0)}/{sum(entry['paths'].values())}"


def _spread_text(found: dict[str, float] | None) -> str:
    return f"{found['median']:.2f} ({found['p10']:.2f}-{found['p90']:.2f})" if found else ""


def _our_names(results: Sequence[Result], precision: str) -> list[str]:
    """In the order of first appearance."""
    entries = [entry for result in results for entry in result["contestants"]]
    chosen = (e["name"] for e in entries if e["ours"] and e["precision"] == precision)
    return list(dict.fromkeys(chosen))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to one width: names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
