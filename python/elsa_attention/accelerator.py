"""ea.Accelerator: a machine of given parameters, what it costs, and what it does to tensors.

Source: Sec. IV, Sec. V-D. The arithmetic, cycles and costs are the C++ core's (elsa/fixed,
elsa/sim, elsa/cost).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elsa_attention import _core
from elsa_attention._tensors import Tensor
from elsa_attention.inputs import Inputs, call_inputs, integer, thread_count, write_result
from elsa_attention.plan import Plan, require_plan
from elsa_attention.report import TECHNOLOGY, Breakdown, Formats, Report
from elsa_attention.stats import HeadStats

_CONFIGS = Path(__file__).parent / "configs"


class Accelerator:
    """An ELSA accelerator: its parameters, area and power, and attention as it computes it."""

    def __init__(
        self,
        config: str | os.PathLike[str] | None = None,
        *,
        formats: str | None = None,
        **parameters: int | str,
    ):
        """Makes the machine of the paper, or of a configuration, with some parameters replaced.

        Args:
            config: a TOML file, or one of "paper", "recommended", "single" and "tiny"; by default
                the paper's machine.
            formats: the number formats: "paper-literal" or "recommended".
            parameters: any of docs/reference/parameters.md, as selectors_per_bank=16.

        Raises:
            TypeError: a parameter that no machine has.
            ValueError: values out of range or that do not fit together, an unknown name.
            OSError: an unreadable file.
        """
        base = _core.Config() if config is None else _core.Config.load(_path_of(config))
        known = [name for section in base.to_dict().values() for name in section]
        for name in parameters:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f", such as {near[0]}" if near else ""
                raise TypeError(
                    f"Accelerator: expected parameters of docs/reference/parameters.md{hint}, "
                    f"got {name}"
                )
        if formats is not None and (not isinstance(formats, str) or not formats):
            raise ValueError(f"formats: expected paper-literal or recommended, got {formats!r}")
        values = {name: str(value) for name, value in parameters.items()}
        self._config = base.replace(formats or "", values)

    @property
    def config(self) -> _core.Config:
        """The parameters as attributes, and `to_dict()`."""
        return self._config

    @property
    def digest(self) -> str:
        """A fingerprint of the parameters: 16 hexadecimal digits, as `elsa params` prints."""
        return self._config.digest

    @property
    def area_mm2(self) -> Breakdown:
        """Area of one accelerator by module. Units: mm2."""
        return Breakdown.of(_core.area_mm2(self._config, TECHNOLOGY))

    @property
    def peak_power_mw(self) -> Breakdown:
        """Power of one accelerator with every module busy, by module. Units: mW."""
        return Breakdown.of(_core.peak_power_mw(self._config, TECHNOLOGY))

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        *,
        plan: Plan | None = None,
        layer: int = 0,
        lengths: Sequence[int] | Tensor | None = None,
        threads: int | None = None,
        values: bool = True,
    ) -> tuple[Tensor | None, Report]:
        """Attention as the machine computes it, clock by clock: (result, report).

        Words and shapes are those of `elsa_attention.attention`, the result is that of
        engine="sim". Without a plan, or with p = 0, the machine runs exact.

        Args:
            values: False computes cycles and energy only; the result is None.

        Raises:
            ValueError: also inputs larger than the machine, a plan of another hash.
            RuntimeError: what the machine cannot do: biases, masks other than of keys or causal.
        """
        require_plan(plan)
        tensors = (query, key, value, attn_mask)
        inputs = call_inputs(*tensors, is_causal, scale, enable_gqa, lengths)
        number, count = integer("layer", layer, -(2**31)), thread_count(threads)
        if not values:
            return None, self.simulate(inputs, plan, number, None, count)
        reports: list[Report] = []
        result = write_result(
            inputs,
            tensors,
            lambda out: reports.append(self.simulate(inputs, plan, number, out, count)),
        )
        return result, reports[0]

    def timeline(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        *,
        path: str | os.PathLike[str],
        window: tuple[int, int] | None = None,
        format: str = "perfetto",
        plan: Plan | None = None,
        layer: int = 0,
        lengths: Sequence[int] | Tensor | None = None,
        batch: int = 0,
        head: int = 0,
    ) -> None:
        """Writes what happened when in one head, for https://ui.perfetto.dev or Konata.

        Args:
            path: file to write.
            window: first cycle and the cycle after the last; by default all of them.
            format: "perfetto" or "kanata".
            batch, head: which one.

        Raises:
            ValueError, RuntimeError: as `attention`. OSError: the file cannot be written.
        """
        require_plan(plan)
        inputs = call_inputs(query, key, value, attn_mask, is_causal, scale, enable_gqa, lengths)
        if window is not None:
            window = tuple(integer("timeline: window", cycle, 0, 2**62) for cycle in window)
            if len(window) != 2 or window[0] >= window[1]:
                raise ValueError(f"timeline: window: expected (first, end), got {window}")
        _core.write_timeline(
            *inputs.arguments(),
            self._config,
            None if plan is None else plan.native,
            integer("layer", layer, -(2**31)),
            integer("timeline: batch", batch, 0),
            integer("timeline: head", head, 0),
            window,
            format,
            os.fspath(path),
        )

    def compute(
        self, inputs: Inputs, plan: Plan | None, layer: int, out: np.ndarray, threads: int
    ) -> tuple[list[HeadStats], Formats]:
        """Writes the machine's values, candidates by ascending key; engine "fixed"."""
        rows, formats = _core.fixed_attention(*self._arguments(inputs, plan, layer, out, threads))
        return _stats(rows), Formats.of(formats)

    def simulate(
        self, inputs: Inputs, plan: Plan | None, layer: int, out: np.ndarray | None, threads: int
    ) -> Report:
        """Simulates, and writes the machine's values if there is an `out`; engine "sim"."""
        rows, formats, simulation = _core.sim_attention(
            *self._arguments(inputs, plan, layer, out, threads)
        )
        return Report(self._config, simulation, _stats(rows), Formats.of(formats))

    def _arguments(
        self, inputs: Inputs, plan: Plan | None, layer: int, out: np.ndarray | None, threads: int
    ) -> tuple[Any, ...]:
        native = None if plan is None else plan.native
        return (*inputs.arguments(), self._config, native, layer, out, threads)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Accelerator) and self._config == other._config

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        c = self._config
        return (
            f"Accelerator(n={c.n}, d={c.d}, k={c.k}, banks={c.banks}, "
            f"selectors_per_bank={c.selectors_per_bank}, formats={c.formats!r}, "
            f"digest={self.digest!r})"
        )


def _stats(rows: list[tuple]) -> list[HeadStats]:
    """The machine does not measure mass."""
    return [HeadStats(*row[:-1], None) for row in rows]


def _path_of(config: str | os.PathLike[str]) -> str:
    """The file that a name or path means."""
    path = os.fspath(config)
    names = sorted(file.stem for file in _CONFIGS.glob("*.toml"))
    if config in names:
        return str(_CONFIGS / f"{config}.toml")
    if not os.path.dirname(path) and "." not in path and not os.path.exists(path):
        raise ValueError(f"Accelerator: expected a file or one of {', '.join(names)}, got {path!r}")
    return path
