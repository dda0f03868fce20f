"""Speed-ups over the fastest float32 peer as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elsa_attention.bench.report import ratio


def write(results: Sequence[dict[str, Any]], path: Path) -> None:
    """One panel per series of cases that differ in length only. Errors: OSError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(_series(result), []).append(result)
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(5.2 * columns, 3.8 * rows), squeeze=False, layout="constrained"
    )
    for panel in axes.flat[len(groups) :]:
        panel.axis("off")
    for panel, (title, members) in zip(axes.flat, groups.items(), strict=False):
        _draw(panel, title, members)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _series(result: dict[str, Any]) -> str:
    causal = ", causal" if result["causal"] else ""
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    what = f"{result['model'] or result['kind']}, d = {result['d']}{causal}, {threads}"
    heads, kv_heads = result["heads"], result["kv_heads"]
    return what if heads == kv_heads else f"{what}, {heads} heads on {kv_heads}"


def _draw(panel: Any, title: str, members: Sequence[dict[str, Any]]) -> None:
    lines: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for result in sorted(members, key=lambda r: r["n_k"]):
        base = result["fastest_peer"]["float32"]
        for entry in result["contestants"]:
            found = ratio(result, entry["name"], base) if entry["ours"] else None
            if found:
                lines.setdefault(entry["name"], []).append((result["n_k"], found))
    for name, points in lines.items():
        style = {"elsa-16bit": "--", "elsa-int8": ":"}.get(name.split("@")[0], "-")
        medians = [found["median"] for _, found in points]
        low = [found["median"] - found["p10"] for _, found in points]
        high = [found["p90"] - found["median"] for _, found in points]
        lengths = [n for n, _ in points]
        panel.errorbar(
            lengths, medians, (low, high), label=name, ls=style, marker="o", ms=3, lw=1.2
        )
    panel.axhline(1, color="black", lw=0.8)
    panel.set(xscale="log", yscale="log", title=title, xlabel="keys")
    panel.set_ylabel("times as fast as the fastest float32 peer")
    ticks = sorted({n for points in lines.values() for n, _ in points})
    panel.set_xticks(ticks, [str(n) for n in ticks])
    panel.minorticks_off()
    values = [v for v in (0.5, 1, 2, 3, 5, 10, 20, 40)]
    panel.set_yticks(values, [f"{v:g}" for v in values])
    if lines:
        panel.legend(fontsize=6, ncols=2)
