"""The pictures of the demo, drawn with matplotlib straight into files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from elsa_attention.demo.story import Scene
    from elsa_attention.tasks.sweep import Sweep

_STYLE = {
    "paper": ("#c0392b", "o", "-"),
    "paper + mean row": ("#1f618d", "s", "-"),
    "random keys": ("#7f8c8d", "x", "--"),
}


def metric_against_kept(sweeps: Sequence[Sweep], path: Path) -> None:
    """Metric and fidelity over the share of keys kept, one column per model."""
    figure = Figure(figsize=(5.2 * len(sweeps), 7), layout="constrained")
    axes = figure.subplots(2, len(sweeps), squeeze=False, sharex="col")
    for column, sweep in enumerate(sweeps):
        metric, fidelity = axes[0][column], axes[1][column]
        metric.axhline(sweep.exact.metric, color="black", linewidth=1, label="exact")
        for variant, (colour, marker, line) in _STYLE.items():
            rows = [row for row in sweep.rows if row.variant == variant]
            kept = [row.kept_fraction for row in rows]
            drawn = {"color": colour, "marker": marker, "linestyle": line, "label": variant}
            metric.plot(kept, [row.metric for row in rows], **drawn)
            fidelity.plot(kept, [row.fidelity for row in rows], **drawn)
            if variant == "paper":
                for row in rows:
                    fidelity.annotate(
                        f"p = {row.p:g}",
                        (row.kept_fraction, row.fidelity),
                        textcoords="offset points",
                        xytext=(3, -12),
                        fontsize=7,
                    )
        metric.set_title(f"{sweep.model}: {sweep.task.name}")
        metric.set_ylabel(sweep.exact.metric_name.replace("_", " "))
        fidelity.set_ylabel(sweep.task.fidelity_name.replace("_", " "))
        fidelity.set_xlabel("kept fraction of the (query, key) pairs")
        metric.legend(fontsize=8)
        for axis in (metric, fidelity):
            axis.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def kept_by_head(model: str, p: float, kept: list[list[float]], path: Path) -> None:
    """A cell per layer and head with its kept fraction."""
    grid = np.array(kept)
    layers, heads = grid.shape
    figure = Figure(figsize=(1.5 + 0.5 * heads, 1.3 + 0.38 * layers), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for layer in range(layers):
        for head in range(heads):
            axis.text(
                head,
                layer,
                f"{grid[layer, head]:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if grid[layer, head] > 0.55 else "white",
            )
    axis.set_xlabel("head")
    axis.set_ylabel("layer")
    axis.set_xticks(range(heads))
    axis.set_yticks(range(layers))
    axis.set_title(f"{model}: kept fraction per layer and head, p = {p:g}", fontsize=10)
    figure.colorbar(image, ax=axis)
    figure.savefig(path, dpi=130)


def attention_of_head(scene: Scene, path: Path) -> None:
    """The exact attention of one head, beside what of it falls on kept keys."""
    n = len(scene.explanations)
    weights = np.zeros((n, n))
    kept = np.zeros((n, n), bool)
    for e in scene.explanations:
        for k in e.keys:
            weights[e.query, k.key] = k.weight
            kept[e.query, k.key] = k.kept
    figure = Figure(figsize=(15, 7.8), layout="constrained")
    exact, selected = figure.subplots(1, 2)
    shade = np.sqrt(weights)  # small weights stay visible
    exact.imshow(shade, cmap="magma_r", vmin=0, vmax=shade.max())
    exact.set_title("exact softmax weights (darker is more)")
    selected.imshow(np.where(kept, shade, np.nan), cmap="magma_r", vmin=0, vmax=shade.max())
    selected.set_facecolor("#dfe6e9")
    selected.set_title(
        f"kept by ELSA: {100 * kept.mean():.0f} % of the pairs, "
        f"{100 * (weights * kept).sum() / n:.0f} % of the weight (grey: dropped)"
    )
    for axis in (exact, selected):
        axis.set_xticks(range(n), _plain(scene.tokens[:n]), rotation=90, fontsize=6)
        axis.set_yticks(range(n), _plain(scene.tokens[:n]), fontsize=6)
        axis.set_xlabel("key")
        axis.set_ylabel("query")
    figure.suptitle(f"{scene.model}, layer {scene.layer}, head {scene.head}")
    figure.savefig(path, dpi=110)


def _plain(tokens: list[str]) -> list[str]:
    """Tokens as labels: a dollar sign would start a formula."""
    return [token.replace("$", r"\$") for token in tokens]
