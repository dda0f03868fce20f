"""Speed-ups over the fastest float32 peer as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elsa_attention.bench.cases import PRECISIONS
from elsa_attention.bench.report import Result, ratio


def write(results: Sequence[Result], path: Path) -> None:
    """A row of panels, one per precision of ours, for each series of cases that differ in length
    only; series of one case have no line and are left out if there are others. Errors: OSError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(_series(result), []).append(result)
    lines = {title: members for title, members in groups.items() if len(members) > 1} or groups
    figure, axes = pyplot.subplots(
        len(lines),
        len(PRECISIONS),
        figsize=(4.2 * len(PRECISIONS), 3.2 * len(lines)),
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    for row, (title, members) in zip(axes, lines.items(), strict=True):
        for panel, precision in zip(row, PRECISIONS, strict=True):
            _draw(panel, members, precision)
            panel.set_title(f"{title}: {precision}", fontsize=9)
        row[0].set_ylabel("x fastest float32 peer")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _series(result: Result) -> str:
    causal = ", causal" if result["causal"] else ""
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    what = f"{result['model'] or result['kind']}, d = {result['d']}{causal}, {threads}"
    heads, kv_heads = result["heads"], result["kv_heads"]
    return what if heads == kv_heads else f"{what}, {heads} heads on {kv_heads}"


def _draw(panel: Any, members: Sequence[Result], precision: str) -> None:
    from matplotlib import colormaps

    lines: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for result in sorted(members, key=lambda r: r["n_k"]):
        base = result["fastest_peer"]["float32"]
        for entry in result["contestants"]:
            if entry["ours"] and entry["precision"] == precision:
                found = ratio(result, entry["name"], base)
                if found:
                    lines.setdefault(entry["name"], []).append((result["n_k"], found))
    if not lines:
        panel.axis("off")
        return
    panel.axhline(1, color="grey", lw=0.8)
    panel.set(xscale="log", yscale="log")
    shares = sum("@" in name for name in lines)
    colours = iter(colormaps["viridis"]([i / max(shares, 1) for i in range(shares)]))
    for name, points in lines.items():
        medians = [found["median"] for _, found in points]
        low = [found["median"] - found["p10"] for _, found in points]
        high = [found["p90"] - found["median"] for _, found in points]
        colour = next(colours) if "@" in name else "black"
        panel.errorbar(
            [n for n, _ in points], medians, (low, high), label=name, color=colour, marker="o", ms=3
        )
    ticks = sorted({n for points in lines.values() for n, _ in points})
    panel.set_xticks(ticks, [str(n) for n in ticks], fontsize=7)
    values = [0.5, 1, 2, 3, 5, 10, 20, 40]
    panel.set_yticks(values, [f"{v:g}" for v in values])
    panel.minorticks_off()
    panel.legend(fontsize=6)
