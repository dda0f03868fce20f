"""The executions of attention that a caller can choose, behind one method.

"reference" is floating point (elsa/reference), "cpu" the same keys fast (elsa/cpu), "fixed" the
accelerator's values (elsa/fixed), and "sim" the same with cycles and energy (elsa/sim).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elsa_attention import cpu
from elsa_attention.accelerator import Accelerator
from elsa_attention.inputs import Inputs, integer, thread_count
from elsa_attention.plan import Plan
from elsa_attention.report import Formats, Report
from elsa_attention.stats import HeadStats

ENGINES = ("reference", "cpu", "fixed", "sim")


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
    precision: str = "auto"
    select: str = "auto"

    @classmethod
    def make(
        cls,
        name: str,
        accelerator: Accelerator | None,
        threads: int | None,
        measure_mass: bool,
        random_keys_seed: int | None,
        precision: str = "auto",
        select: str = "auto",
    ) -> Engine:
        """Errors: ValueError for an engine that is unknown or has not what is asked of it."""
        require_engine(name)
        refuse_options(name, accelerator, measure_mass, random_keys_seed, precision, select)
        if name in ("reference", "cpu"):
            pass
        elif accelerator is None:
            accelerator = Accelerator()
        elif not isinstance(accelerator, Accelerator):
            raise TypeError(
                f"accelerator: expected an elsa_attention.Accelerator, got "
                f"{type(accelerator).__name__}"
            )
        if random_keys_seed is not None:
            random_keys_seed = integer("random_keys_seed", random_keys_seed, 0, 2**64 - 1)
        if name == "cpu":
            cpu.require_words(precision, select)
        count = thread_count(threads)
        return cls(name, accelerator, count, measure_mass, random_keys_seed, precision, select)

    @property
    def cpu_options(self) -> tuple[int, str, str]:
        """What the functions of the engine cpu take: threads, precision, select."""
        return self.threads, self.precision, self.select

    def attend(self, inputs: Inputs, plan: Plan | None, layer: int, out: np.ndarray) -> Outcome:
        """Writes attention into `out` [batch, heads, n_q, d_v]."""
        if self.name == "cpu":
            return Outcome(cpu.attend(inputs, plan, layer, out, self.cpu_options))
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


def refuse_options(
    name: str,
    accelerator: Accelerator | None = None,
    measure_mass: bool = False,
    random_keys_seed: int | None = None,
    precision: str = "auto",
    select: str = "auto",
) -> None:
    """Refuses options that the engine has not."""
    given = (
        ("accelerator", accelerator is not None, ("fixed", "sim")),
        ("measure_mass", measure_mass, ("reference",)),
        ("random_keys_seed", random_keys_seed is not None, ("reference",)),
        ("precision", precision != "auto", ("cpu",)),
        ("select", select != "auto", ("cpu",)),
    )
    for option, is_given, engines in given:
        if is_given and name not in engines:
            raise ValueError(f"{option}: expected engine {' or '.join(engines)}, got {name}")
