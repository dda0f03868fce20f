"""The executions of attention that a caller can choose, behind one method.

"reference" is floating point (elsa/reference), "fixed" the accelerator's values (elsa/fixed), and
"sim" the same with cycles and energy (elsa/sim).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elsa_attention.accelerator import Accelerator
from elsa_attention.inputs import Inputs, integer, thread_count
from elsa_attention.plan import Plan
from elsa_attention.report import Formats, Report
from elsa_attention.stats import HeadStats

ENGINES = ("reference", "fixed", "sim")


@dataclass(frozen=True)
class Outcome:
    """What a call counted."""

    stats: list[HeadStats]
    formats: Formats | None = None  # of the engines fixed and sim
    report: Report | None = None  # of the engine sim


@dataclass(frozen=True)
class Engine:
    """One execution with its options, checked."""

    name: str
    accelerator: Accelerator | None
    threads: int
    measure_mass: bool
    random_keys_seed: int | None

    @classmethod
    def make(
        cls,
        name: str,
        accelerator: Accelerator | None,
        threads: int | None,
        measure_mass: bool,
        random_keys_seed: int | None,
    ) -> Engine:
        """Errors: ValueError for an engine that is unknown or has not what is asked of it."""
        require_engine(name)
        if name == "reference":
            if accelerator is not None:
                raise ValueError("accelerator: expected engine fixed or sim, got reference")
        elif accelerator is None:
            accelerator = Accelerator()
        elif not isinstance(accelerator, Accelerator):
            raise TypeError(
                f"accelerator: expected an elsa_attention.Accelerator, got "
                f"{type(accelerator).__name__}"
            )
        if random_keys_seed is not None:
            random_keys_seed = integer("random_keys_seed", random_keys_seed, 0, 2**64 - 1)
        given = {"measure_mass": measure_mass, "random_keys_seed": random_keys_seed is not None}
        for option, is_given in given.items():
            if is_given and name != "reference":
                raise ValueError(f"{option}: expected engine reference, got {name}")
        return cls(name, accelerator, thread_count(threads), measure_mass, random_keys_seed)

    def attend(self, inputs: Inputs, plan: Plan | None, layer: int, out: np.ndarray) -> Outcome:
        """Writes attention into `out` [batch, heads, n_q, d_v]."""
        if self.accelerator is None:
            return Outcome(
                inputs.attend(
                    plan, layer, out, self.threads, self.measure_mass, self.random_keys_seed
                )
            )
        if self.name == "fixed":
            return Outcome(*self.accelerator.compute(inputs, plan, layer, out, self.threads))
        report = self.accelerator.simulate(inputs, plan, layer, out, self.threads)
        return Outcome(report.stats, report.formats, report)


def require_engine(name: str) -> None:
    """Refuses an engine that this build does not have."""
    if name not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}")
