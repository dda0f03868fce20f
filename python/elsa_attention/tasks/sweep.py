"""Evaluates one task over settings of ELSA: exact beside approximate, through the model itself.

Every setting runs the evaluation data with ``attn_implementation="elsa"``, with thresholds learned
on other data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import elsa_attention as ea
from elsa_attention.tasks.base import Change, Task, TaskResult

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel

# Variant -> (plan options, whether each query's keys are drawn at random instead of selected).
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "paper": ({"remainder": "none"}, False),
    "paper + mean row": ({"remainder": "mean"}, False),
    "random keys": ({"remainder": "none"}, True),
}
_RANDOM_SEED = 1


@dataclass(frozen=True)
class Row:
    """One setting: what it kept and what that cost."""

    variant: str
    p: float
    kept_fraction: float
    mass_kept: float | None  # None where the engine does not measure it
    metric: float
    change: Change
    fidelity: float
    fallback_fraction: float  # queries for which the test kept no key
    kept_by_head: list[list[float]]  # [layer][head]
    time_s: float
    report: ea.Report | None = None  # of the engine sim

    def as_json(self) -> dict[str, Any]:
        """The row with the key names of the file contract."""
        change = self.change
        machine = {}
        if self.report is not None:
            machine = {"cycles": self.report.cycles, "energy_pj": self.report.energy_pj.total}
        return {
            "variant": self.variant,
            "p": self.p,
            "kept_fraction": self.kept_fraction,
            "mass_kept": self.mass_kept,
            "metric": self.metric,
            "metric_change": change.value,
            "metric_change_interval": [change.low, change.high],
            "metric_change_relative": change.relative,
            "metric_change_relative_interval": [change.relative_low, change.relative_high],
            "fidelity": self.fidelity,
            "fallback_fraction": self.fallback_fraction,
            "kept_fraction_by_head": self.kept_by_head,
            "time_s": self.time_s,
            **machine,
        }


@dataclass(frozen=True)
class Sweep:
    """All settings of one task on one model."""

    model: str
    task: Task
    exact: TaskResult
    rows: list[Row]
    plans: dict[float, ea.Plan]  # by p, as the paper has it
    engine: str = "reference"
    accelerator: ea.Accelerator | None = None

    def as_json(self) -> dict[str, Any]:
        """One JSON object: the exact result and a list of rows."""
        machine = {}
        if self.accelerator is not None:
            config = self.accelerator.config
            machine = {"digest": config.digest, "format_set": config.formats}
        return {
            "model": self.model,
            "task": self.task.name,
            "metric_name": self.exact.metric_name,
            "fidelity_name": self.task.fidelity_name,
            "sequences": self.exact.sequences,
            "tokens": self.exact.tokens,
            "pairs": self.exact.pairs,
            "metric_exact": self.exact.metric,
            "engine": self.engine,
            **machine,
            "rows": [row.as_json() for row in self.rows],
        }


def learn(
    loaded: LoadedModel,
    task: Task,
    ps: Sequence[float],
    *,
    accelerator: ea.Accelerator | None = None,
    threads: int | None = None,
) -> dict[float, ea.Plan]:
    """A plan for every p from one pass over the task's calibration data.

    With an accelerator the plans have its hash.
    """
    hash_of_machine = {}
    if accelerator is not None:
        config = accelerator.config
        hash_of_machine = {"hash": config.hash, "hash_bits": config.k, "hash_d": config.d}
    plans = ea.calibrate_many(
        loaded.model,
        task.calibration_batches(loaded),
        settings=[{"p": p, **hash_of_machine} for p in ps],
        model_name=loaded.name,
        threads=threads,
    )
    return dict(zip(ps, plans, strict=True))


def sweep(
    loaded: LoadedModel,
    task: Task,
    plans: Mapping[float, ea.Plan],
    *,
    variants: Sequence[str] = tuple(VARIANTS),
    engine: str = "reference",
    accelerator: ea.Accelerator | None = None,
    threads: int | None = None,
    precision: str = "auto",
    select: str = "always",
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Sweep:
    """Evaluates `task` exactly and for every plan (by p) and variant.

    `progress` is told the step at hand and how many of all steps are done. p = 0 is the exact mode
    and has one row. precision and select are for the engine cpu. Errors: those of the task, the
    plan and the engine.
    """
    settings = [(p, v) for p in plans for v in (variants if p > 0 else variants[:1])]
    steps = len(settings) + 1
    progress("exact", 0, steps)
    exact = task.evaluate(loaded)
    rows = []
    for step, (p, variant) in enumerate(settings):
        progress(f"p = {p:g}, {variant}", 1 + step, steps)
        options, random_keys = VARIANTS[variant]
        start = time.perf_counter()
        with (
            plans[p]
            .replace(**options)
            .applied(
                loaded.model,
                engine=engine,
                accelerator=accelerator,
                threads=threads,
                precision=precision,
                select=select if engine == "cpu" else "auto",
                measure_mass=engine == "reference",
                random_keys_seed=_RANDOM_SEED if random_keys else None,
                model_name=loaded.name,
            ) as run
        ):
            result = task.evaluate(loaded, exact)
        total = run.total
        rows.append(
            Row(
                variant=variant,
                p=p,
                kept_fraction=total.kept_fraction,
                mass_kept=total.mass_kept,
                metric=result.metric,
                change=task.change(exact, result),
                fidelity=task.fidelity(exact, result)["value"],
                fallback_fraction=total.fallback_queries / max(total.queries, 1),
                kept_by_head=_by_head(run),
                time_s=time.perf_counter() - start,
                report=run.report,
            )
        )
    progress("done", steps, steps)
    return Sweep(loaded.name, task, exact, rows, dict(plans), engine, accelerator)


def _by_head(run: ea.Run) -> list[list[float]]:
    """Kept fraction, [layer][head]."""
    kept: list[list[float]] = []
    for (layer, _), stats in run.stats.items():  # in the order of (layer, head)
        if layer == len(kept):
            kept.append([])
        kept[layer].append(stats.kept_fraction)
    return kept


def _costs(report: ea.Report | None) -> tuple[str, ...]:
    if report is None:
        return ()
    return f"{report.cycles / 1e6:.2f}", f"{report.energy_pj.total / 1e6:.2f}"


def format_table(result: Sweep) -> str:
    """The rows as a plain-text table, with a line above that says what was measured."""
    exact = result.exact
    name = exact.metric_name.replace("_", " ")
    fidelity = result.task.fidelity_name.replace("_", " ")
    head = ("setting", "p", "kept", "mass", name, "change % [95 % interval]", fidelity)
    lines = [("exact", "0", "1.000", "1.000", f"{exact.metric:.4f}", "", "1.0000")]
    simulated = any(row.report is not None for row in result.rows)
    if simulated:
        head += ("Mcycles", "energy uJ")
        lines = [(*line, "", "") for line in lines]
    for row in result.rows:
        c = row.change
        interval = f"[{100 * c.relative_low:+.2f}, {100 * c.relative_high:+.2f}]"
        lines.append(
            (
                row.variant,
                f"{row.p:g}",
                f"{row.kept_fraction:.3f}",
                "-" if row.mass_kept is None else f"{row.mass_kept:.3f}",
                f"{row.metric:.4f}",
                f"{100 * c.relative:+7.2f} {interval:>18}",
                f"{row.fidelity:.4f}",
                *_costs(row.report),
            )
        )
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def text(line: Sequence[str]) -> str:
        first, *rest = (
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    title = (
        f"{result.model}, {result.task.name}: {exact.examples} examples, {exact.sequences} "
        f"sequences, {exact.tokens} tokens (about {exact.tokens // exact.sequences} each)"
    )
    if result.accelerator is not None:
        config = result.accelerator.config
        title += f"\nengine {result.engine}, formats {config.formats}, digest {config.digest}"
    return "\n".join(
        [title, text(head), "-" * (sum(widths) + 2 * (len(widths) - 1)), *map(text, lines)]
    )
