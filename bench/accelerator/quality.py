"""What each p costs the model, and so which p is conservative, moderate and aggressive.

The paper's bounds are 1, 2.5 and 5 % of the metric (Sec. V-C). On reactions the metric is ALBERT's
masked-token accuracy. MiniLM's correlation with people resolves no such loss (its interval is
several percent wide), so there the bounds hold for the loss of cosine to the exact embedding.
Rows are those of `elsa evaluate --json`; what was measured before is not measured again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from traces import load_long, long_texts

BOUNDS = {"conservative": 0.01, "moderate": 0.025, "aggressive": 0.05}
RULES = {"paper": "paper", "mean": "paper + mean row"}
# Enough values of p to bracket all three bounds.
GRID = {
    ("reactions", "paper"): (4, 4.5, 5, 5.5, 6, 7),
    ("reactions", "mean"): (4, 8, 16, 20, 32, 64),
    ("documents", "paper"): (0.5, 0.9, 1, 1.5, 1.7, 2, 2.5, 3),
    ("documents", "mean"): (1, 2, 4, 6, 8),
    ("long", "paper"): (0.5, 0.8, 1, 1.4, 1.5, 2, 3),
    ("long", "mean"): (1, 1.8, 2, 3.2, 4, 6, 8, 16),
}
LONG_LIMIT = 16  # texts of 512 tokens, half of them for calibration


def measure(folder: Path, reactions: str | None) -> None:
    """Fills folder/quality-<workload>-<rule>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for (workload, rule), ps in GRID.items():
        path = folder / f"quality-{workload}-{rule}.json"
        found = json.loads(path.read_text()) if path.exists() else {"rows": []}
        missing = [p for p in ps if all(row["p"] != p for row in found["rows"])]
        if missing:
            new = _sweep(workload, rule, [float(p) for p in missing], reactions, folder)
            found = {**new, "rows": sorted(found["rows"] + new["rows"], key=lambda r: r["p"])}
            path.write_text(json.dumps(found, indent=1))


def _sweep(
    workload: str, rule: str, ps: list[float], reactions: str | None, folder: Path
) -> dict[str, Any]:
    from elsa_attention import tasks
    from elsa_attention.models import load
    from elsa_attention.tasks.sweep import learn, sweep

    if workload == "long":
        loaded = load_long()
        texts = folder / "long.txt"
        parts = long_texts(loaded).values()
        texts.write_text("\n".join(text for part in parts for text in part), encoding="utf-8")
        task = tasks.make("fidelity", texts, LONG_LIMIT)
    elif workload == "documents":
        loaded, task = load("minilm"), tasks.make("doc-similarity", None)
    else:
        loaded, task = load("rxn-albert"), tasks.make("masked-token", reactions)
    result = sweep(loaded, task, learn(loaded, task, ps), variants=[RULES[rule]])
    return result.as_json()


def loss(workload: str, row: dict[str, Any]) -> float:
    """What the bounds apply to, as a fraction."""
    return -row["metric_change_relative"] if workload == "reactions" else 1 - row["fidelity"]


def choose(folder: Path, workload: str, rule: str) -> dict[str, dict[str, Any]]:
    """{configuration: row}: the row of the largest p whose loss, and that of all smaller p, is
    within the bound; the smallest p if none is."""
    name = "long" if workload == "large" else workload  # its heads are those of the same model
    rows = json.loads((folder / f"quality-{name}-{rule}.json").read_text())["rows"]
    chosen = {}
    for configuration, bound in BOUNDS.items():
        chosen[configuration] = rows[0]
        for row in rows:
            if loss(name, row) > bound:
                break
            chosen[configuration] = row
    return chosen
