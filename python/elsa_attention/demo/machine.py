"""The demo's captured heads on the simulated accelerator, exact and with a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FORMATS = "recommended"


def on_the_accelerator(trace: Path, p: float) -> tuple[str, dict[str, Any]]:
    """Runs a trace on the paper's machine: what to print, and the figures for results.json."""
    import elsa_attention as ea

    machine = ea.Accelerator(formats=FORMATS)
    plan = ea.calibrate([trace], p=p, hash_d=machine.config.d, hash_bits=machine.config.k)
    exact, approximate = (_run(machine, trace, chosen) for chosen in (None, plan))
    figures = {
        "p": p,
        "digest": machine.digest,
        "operations": exact.heads,
        "exact_cycles": exact.cycles,
        "cycles": approximate.cycles,
        "exact_energy_pj": exact.energy_pj.total,
        "energy_pj": approximate.energy_pj.total,
        "causes": approximate.causes,
    }
    text = (
        f"On the simulated accelerator (paper's machine, {FORMATS} formats, {exact.heads} heads): "
        f"{approximate.cycles / exact.heads:.0f} cycles a head at p = {p:g}, exact "
        f"{exact.cycles / exact.heads:.0f} ({exact.cycles / approximate.cycles:.2f}x faster); "
        f"{approximate.energy_pj.total / exact.energy_pj.total:.2f} of the energy.\n"
        f"{approximate.sentence}"
    )
    return text, figures


def _run(machine: Any, path: Path, plan: Any) -> Any:
    """The report of all layers; cycles only."""
    import elsa_attention as ea

    trace = ea.Trace.open(str(path))
    reports = []
    for layer in range(trace.layers):
        q, k, v, _ = trace.layer(layer)
        options = {"scale": trace.scale, "is_causal": trace.causal, "lengths": trace.lengths}
        _, report = machine.attention(
            q, k, v, enable_gqa=True, plan=plan, layer=layer, values=False, **options
        )
        reports.append(report)
    return sum(reports)
