"""Plans: everything ELSA learned about one model before it runs. Source: Sec. III-B to III-E."""

from __future__ import annotations

import functools
import math
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from elsa_attention import _core

if TYPE_CHECKING:
    from elsa_attention.hf import Run


_REPLACEABLE = {
    "model": "text",
    "remainder": "'none' or 'mean'",
    "bias_in_test": "a bool",
    "dense_below": "an integer",
    "always_keep_first": "an integer",
    "always_keep_recent": "an integer",
    "thresholds": "[layer][head] of numbers or None",
}


class Plan:
    """Hash, angle correction and one threshold per layer and head, with how they were learned.

    Made by `calibrate`, `Plan.load` or `Plan.from_json`; never changed in place.
    """

    __slots__ = ("native",)

    def __init__(self, native: _core.Plan):
        self.native = native  # of the C++ core; not part of the interface

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads a plan file. Errors: OSError; ValueError naming the field; RuntimeError for a
        format version that this release does not know."""
        return cls(_core.Plan.load(os.fspath(path)))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Reads a plan from text. Errors: as `load`; TypeError for anything but text."""
        if not isinstance(text, str):
            raise TypeError(f"plan: expected text, got {type(text).__name__}")
        # A lone surrogate has no UTF-8; replaced, it is text that the reader refuses or accepts.
        return cls(_core.Plan.from_json(text.encode("utf-8", "replace").decode(), "plan"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a plan file: whole or not at all, the same bytes for the same plan."""
        self.native.save(os.fspath(path))

    def to_json(self) -> str:
        """The text of the plan file."""
        return self.native.to_json()

    @property
    def model(self) -> str:
        """Name of the model it was learned on; "" if unknown."""
        return self.native.model

    @property
    def profile(self) -> str:
        """ "paper" without levers beyond the paper, "mean-row" with that one, else "custom"."""
        return self.native.profile

    @property
    def rule(self) -> str:
        """How thresholds were learned: "paper", "mass", "budget" or "gap"."""
        return self.native.rule

    @property
    def target(self) -> float:
        """p for the paper's rule (0 = exact), mass for "mass" and "gap", share for "budget"."""
        return self.native.target

    @property
    def p(self) -> float | None:
        """The paper's approximation degree; None for another rule."""
        return self.target if self.rule == "paper" else None

    @property
    def remainder(self) -> str:
        """What stands for the dropped keys: "none", or "mean" for the mean row."""
        return self.native.remainder

    @property
    def centring(self) -> str:
        """Whether keys are hashed relative to their mean: "off", "on" or "by_length"."""
        return self.native.centring

    @property
    def centring_min_keys(self) -> int:
        """With centring "by_length": centre queries that see at least this many keys."""
        return self.native.centring_min_keys

    @property
    def bias_in_test(self) -> bool:
        """Whether the additive score bias takes part in the candidate test."""
        return self.native.bias_in_test

    @property
    def dense_below(self) -> int:
        """Queries that see fewer keys than this run exact."""
        return self.native.dense_below

    @property
    def always_keep_first(self) -> int:
        """Of the keys that a query sees, the first so many are always kept."""
        return self.native.always_keep_first

    @property
    def always_keep_recent(self) -> int:
        """Of the keys that a query sees, the last so many are always kept."""
        return self.native.always_keep_recent

    @property
    def hash(self) -> _core.Hash:
        """The hash, with `kind`, `d`, `bits`, `seed`, `factors` and `sign_bits(rows)`."""
        return self.native.hash

    @property
    def hash_kind(self) -> str:
        """ "kronecker3", "kronecker2", "dense", "hadamard" or "gaussian"."""
        return self.hash.kind

    @property
    def hash_bits(self) -> int:
        """Bits per hash, the paper's k."""
        return self.hash.bits

    @property
    def d(self) -> int:
        """Components the hash takes: of a query or key, or more."""
        return self.hash.d

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.native.thresholds)

    @property
    def heads(self) -> tuple[int, ...]:
        """Number of heads of each layer."""
        return tuple(len(layer) for layer in self.native.thresholds)

    @property
    def thresholds(self) -> list[list[float | None]]:
        """[layer][head]; None runs the head exact."""
        return [[None if t == -math.inf else t for t in row] for row in self.native.thresholds]

    @property
    def theta_bias_rad(self) -> list[list[float]]:
        """The angle correction, [layer][head], or one value for all as [[x]]."""
        return self.native.theta_bias_rad

    @property
    def calibration(self) -> list[list[dict[str, float]]]:
        """What the calibration saw, [layer][head]: queries, threshold_stddev, and the expected
        kept_fraction and mass_kept. Empty if unknown."""
        return self.native.calibration

    def replace(self, **changes: Any) -> Plan:
        """A copy with other options; what was learned stays.

        Args:
            model: str; remainder: "none" or "mean"; bias_in_test: bool; dense_below: int;
            always_keep_first, always_keep_recent: int;
            thresholds: [layer][head] of float or None (exact).
        """
        native = self.native.copy()
        for name, value in changes.items():
            if name not in _REPLACEABLE:
                raise ValueError(f"Plan.replace: expected {', '.join(_REPLACEABLE)}, got {name}")
            try:
                if name == "thresholds":
                    value = [[-math.inf if t is None else float(t) for t in row] for row in value]
                setattr(native, name, value)
            except (TypeError, ValueError, UnicodeEncodeError) as error:
                if isinstance(error, ValueError) and name == "remainder":
                    raise  # the core names the words it knows
                raise TypeError(
                    f"Plan.replace: {name}: expected {_REPLACEABLE[name]}, got {value!r}"
                ) from None
        native.validate()
        return Plan(native)

    def applied(self, model: Any, **options: Any) -> AbstractContextManager[Run]:
        """Runs a Hugging Face model with this plan inside a `with` block.

        The same as `elsa_attention.applied(model, plan, **options)`, which lists the options.
        """
        from elsa_attention.hf import applied

        return applied(model, self, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.native == other.native

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple:
        return Plan.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        aim = f"p={self.p:g}" if self.rule == "paper" else f"rule={self.rule!r}, {self.target:g}"
        heads = sorted(set(self.heads))
        return (
            f"Plan({aim}, remainder={self.remainder!r}, profile={self.profile!r}, "
            f"model={self.model!r}, layers={self.layers}, "
            f"heads={heads[0] if len(heads) == 1 else self.heads}, "
            f"hash={self.hash_kind}/{self.hash_bits}, d={self.d})"
        )


def require_plan(plan: object) -> None:
    """Refuses what is neither a Plan nor None."""
    if plan is not None and not isinstance(plan, Plan):
        raise TypeError(f"plan: expected an elsa_attention.Plan, got {type(plan).__name__}")


def make_hash(d: int, bits: int = 64, kind: str = "kronecker3", seed: int = 1) -> _core.Hash:
    """Draws a hash of d components into sign bits; the same arguments give the same hash anywhere.

    Source: Sec. III-B, III-C. Errors: ValueError if d is outside 1 to 1024 or bits 1 to 4096.
    """
    return _core.make_hash(kind, d, bits, seed)


def theta_bias(hash: _core.Hash, pairs: int = 50_000, seed: int = 1, d: int | None = None) -> float:
    """The angle correction of a hash, measured on random vectors. Units: radians.

    `d` is their number of components, by default as many as the hash takes.
    Source: Sec. III-B: the 80th percentile of the estimate's error.
    Errors: ValueError if d is more than the hash takes.
    """
    return _core.measure_theta_bias(hash, d, pairs, seed)


@functools.lru_cache(maxsize=64)
def synthetic_theta_bias(kind: str, hash_d: int, bits: int, seed: int, d: int) -> float:
    """theta_bias of make_hash's result on vectors of d components, measured once per process."""
    return theta_bias(make_hash(hash_d, bits, kind, seed), d=d)
