"""Learning plans from real inputs: a model and its batches, trace files, or tensors.

Source: Sec. III-E "Learning Layer-Specific Thresholds"; the rules beyond the paper are ours
(docs/reference/selection.md). Inputs stream through: nothing of them is kept.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elsa_attention import _core
from elsa_attention._tensors import require_one_kind
from elsa_attention.hf.attachment import model_name as name_of
from elsa_attention.hf.attachment import observed
from elsa_attention.inputs import Inputs, integer, prepare, thread_count
from elsa_attention.plan import Plan, make_hash, synthetic_theta_bias

See = Callable[[int, Inputs], None]


@dataclass(frozen=True)
class _Setting:
    """What one plan is learned for: the keywords of `calibrate`."""

    p: float | None = None
    mass: float | None = None
    budget: float | None = None
    rule: str | None = None
    hash: str = "kronecker3"
    hash_bits: int = 64
    hash_d: int | None = None
    seed: int = 1
    remainder: str = "none"
    centring: str = "off"
    centring_min_keys: int = 0
    theta_bias: str | float = "synthetic"
    bias_in_test: bool = False
    dense_below: int = 0
    always_keep_first: int = 0
    always_keep_recent: int = 0

    def plan(self, d: int, theta_bias_rad: list[list[float]]) -> _core.Plan:
        """The plan before learning: every option, no threshold."""
        plan = _core.Plan()
        plan.rule, plan.target = self._rule_and_target()
        plan.hash = make_hash(self._hash_d(d), self.hash_bits, self.hash, self.seed)
        for name in (
            "remainder",
            "centring",
            "centring_min_keys",
            "bias_in_test",
            "dense_below",
            "always_keep_first",
            "always_keep_recent",
        ):
            setattr(plan, name, getattr(self, name))
        plan.theta_bias_rad = theta_bias_rad
        return plan

    def theta_bias_value(self, d: int) -> float:
        """The correction that needs no look at the inputs. Units: radians."""
        if self.theta_bias == "synthetic":
            return synthetic_theta_bias(self.hash, self._hash_d(d), self.hash_bits, self.seed, d)
        return float(self.theta_bias)

    def check(self) -> None:
        """Refuses a setting that makes no sense before any work is done."""
        self._rule_and_target()
        is_word = self.theta_bias in ("synthetic", "per-head")
        if not is_word and not isinstance(self.theta_bias, float | int):
            raise ValueError(
                "calibrate: theta_bias: expected synthetic, per-head or radians, got "
                f"{self.theta_bias!r}"
            )
        theta_bias_rad = [[0.0 if is_word else float(self.theta_bias)]]
        plan = self.plan(1, theta_bias_rad)
        plan.thresholds = [[-math.inf]]
        plan.validate()

    def _hash_d(self, d: int) -> int:
        """Components the hash takes, of inputs that have d."""
        return d if self.hash_d is None else integer("calibrate: hash_d", self.hash_d, d)

    def _rule_and_target(self) -> tuple[str, float]:
        given = {"p": self.p, "mass": self.mass, "budget": self.budget}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"calibrate: expected one of p, mass or budget, got {got}")
        ((name, target),) = given.items()
        allowed = {"p": ("paper",), "mass": ("mass", "gap"), "budget": ("budget",)}[name]
        rule = self.rule or allowed[0]
        if rule not in allowed:
            raise ValueError(
                f"calibrate: rule: expected {' or '.join(allowed)} with {name}, got {rule}"
            )
        return rule, float(target)


class _Learner:
    """Learns one plan, layer by layer as they come."""

    def __init__(self, setting: _Setting, threads: int):
        self.setting = setting
        self._threads = threads
        self._d = 0
        self._meters: dict[int, _core.ThetaBiasMeter] = {}
        self._calibrators: dict[int, _core.Calibrator] = {}

    @property
    def needs_pairs(self) -> bool:
        return self.setting.theta_bias == "per-head"

    def see_pairs(self, layer: int, inputs: Inputs) -> None:
        """First pass: angles between real queries and keys."""
        heads, d = inputs.query.shape[1], inputs.query.shape[3]
        if layer not in self._meters:
            plan = self.setting.plan(d, [[0.0]])
            self._meters[layer] = _core.ThetaBiasMeter(plan, 1, heads)
        self._meters[layer].observe(0, *inputs.arguments(), self._threads)

    def see(self, layer: int, inputs: Inputs) -> None:
        """The pass that learns thresholds."""
        heads, d = inputs.query.shape[1], inputs.query.shape[3]
        self._d = self._d or d
        if d != self._d:
            raise ValueError(
                f"calibrate: layer {layer}: d: expected {self._d} as in the other layers, got {d}"
            )
        if layer not in self._calibrators:
            plan = self.setting.plan(d, self._theta_bias([layer]))
            self._calibrators[layer] = _core.Calibrator(plan, 1, heads)
        self._calibrators[layer].observe(0, *inputs.arguments(), self._threads)

    def finish(self, model: str) -> Plan:
        layers = range(max(self._calibrators, default=-1) + 1)
        missing = [layer for layer in layers if layer not in self._calibrators]
        if not layers or missing:
            what = f"none for layer {missing[0]}" if missing else "none"
            raise ValueError(f"calibrate: expected inputs for every layer, got {what}")
        plan = self.setting.plan(self._d, self._theta_bias(layers))
        plan.model = model
        for layer in layers:
            plan.append_layer(self._calibrators[layer].finish())
        plan.validate()
        return Plan(plan)

    def _theta_bias(self, layers: Iterable[int]) -> list[list[float]]:
        if self.needs_pairs:
            return [self._meters[layer].finish()[0] for layer in layers]
        return [[self.setting.theta_bias_value(self._d)]]


def calibrate(
    source: Any,
    batches: Iterable[Any] | None = None,
    *,
    p: float | None = None,
    mass: float | None = None,
    budget: float | None = None,
    rule: str | None = None,
    hash: str = "kronecker3",
    hash_bits: int = 64,
    hash_d: int | None = None,
    seed: int = 1,
    remainder: str = "none",
    centring: str = "off",
    centring_min_keys: int = 0,
    theta_bias: str | float = "synthetic",
    bias_in_test: bool = False,
    dense_below: int = 0,
    always_keep_first: int = 0,
    always_keep_recent: int = 0,
    threads: int | None = None,
    model_name: str | None = None,
) -> Plan:
    """Learns a plan from real inputs, thresholds per layer and head.

    Args:
        source: one of
            a Hugging Face model, with `batches`: what to call it with, each a mapping of keyword
            arguments (as a tokenizer returns it) or one tensor; the model runs exact, in eval mode;
            one or more paths of trace files;
            an iterable of (layer, query, key, value) or (layer, query, key, value, options) with
            `options` a mapping of keywords of `attention` (attn_mask, is_causal, lengths, ...).
        p: the paper's approximation degree, 0 = exact. Or instead:
        mass: the softmax mass to keep, 0 to 1; `rule` "mass" (default) or "gap".
        budget: the share of the (query, key) pairs to keep, 0 to 1.
        hash, hash_bits, seed: which hash; see `make_hash`.
        hash_d: components the hash takes, by default those of the inputs. With more, vectors are
            spread among zeros: what an accelerator built for that d computes.
        remainder: "mean" averages the dropped keys, "none" forgets them as the paper does.
        centring: "off", "on", or "by_length": for queries that see `centring_min_keys` or more.
        theta_bias: "synthetic" (random vectors, as the paper), "per-head" (on the inputs' own
            pairs; needs a second pass) or a number of radians.
        bias_in_test: let an additive score bias take part in the candidate test.
        dense_below: run queries that see fewer keys exact.
        always_keep_first, always_keep_recent: of the keys that a query sees, always keep the first
            and the last so many (attention sinks, the recent window).
        model_name: stored in the plan; by default the name in the traces, or the last part of
            model.name_or_path.

    Raises:
        TypeError, ValueError: options or inputs that do not fit; OSError: unreadable traces.
    """
    setting = dict(
        p=p,
        mass=mass,
        budget=budget,
        rule=rule,
        hash=hash,
        hash_bits=hash_bits,
        hash_d=hash_d,
        seed=seed,
        remainder=remainder,
        centring=centring,
        centring_min_keys=centring_min_keys,
        theta_bias=theta_bias,
        bias_in_test=bias_in_test,
        dense_below=dense_below,
        always_keep_first=always_keep_first,
        always_keep_recent=always_keep_recent,
    )
    return calibrate_many(source, batches, [setting], threads=threads, model_name=model_name)[0]


def calibrate_many(
    source: Any,
    batches: Iterable[Any] | None = None,
    settings: Sequence[Mapping[str, Any]] = (),
    *,
    threads: int | None = None,
    model_name: str | None = None,
) -> list[Plan]:
    """Learns one plan per setting from one pass over the inputs (two for theta_bias="per-head").

    Args:
        source, batches, threads, model_name: as in `calibrate`.
        settings: mappings of the other keywords of `calibrate`, for example
            [dict(p=1), dict(p=1, remainder="mean"), dict(mass=0.9)]. Settings that differ in
            `remainder` alone share their work.
    """
    try:
        wanted = [_Setting(**setting) for setting in settings]
    except TypeError as error:
        raise TypeError(f"calibrate: settings: {error}") from None
    for setting in wanted:
        setting.check()
    count = thread_count(threads)
    learners = {key: _Learner(key, count) for key in (replace(s, remainder="none") for s in wanted)}
    stream, name = _stream(source, batches)
    measuring = [learner for learner in learners.values() if learner.needs_pairs]
    if measuring:
        if _runs_once(source) or _runs_once(batches):
            raise ValueError(
                'calibrate: theta_bias "per-head": expected inputs that can be read twice, such as '
                "a list, got an iterator"
            )
        stream(_to_all([learner.see_pairs for learner in measuring]))
    stream(_to_all([learner.see for learner in learners.values()]))
    name = name() if model_name is None else model_name
    plans = {key: learner.finish(name) for key, learner in learners.items()}
    return [plans[replace(s, remainder="none")].replace(remainder=s.remainder) for s in wanted]


def _to_all(sinks: list[See]) -> See:
    def see(layer: int, inputs: Inputs) -> None:
        for sink in sinks:
            sink(layer, inputs)

    return see


def _runs_once(x: object) -> bool:
    return hasattr(x, "__next__")


def _stream(
    source: Any, batches: Iterable[Any] | None
) -> tuple[Callable[[See], None], Callable[[], str]]:
    """How to send every input of a source to a function, and what its model is called."""
    if hasattr(source, "config") and callable(source):
        if batches is None:
            raise ValueError("calibrate: expected batches to run the model on, got none")
        return (lambda see: _run_model(source, batches, see)), (lambda: name_of(source))
    if batches is not None:
        raise ValueError("calibrate: expected batches with a model only, got another source")
    if isinstance(source, str | os.PathLike):
        source = [source]
    if isinstance(source, Sequence) and source and isinstance(source[0], str | os.PathLike):
        paths = [os.fspath(path) for path in source]
        return (lambda see: _read_traces(paths, see)), (lambda: _core.Trace.open(paths[0]).model)
    return (lambda see: _read_tensors(source, see)), (lambda: "")


def _run_model(model: Any, batches: Iterable[Any], see: See) -> None:
    import torch

    if model.training:
        raise ValueError("calibrate: expected a model in eval mode, got training: model.eval()")
    with observed(model, see), torch.inference_mode():
        for batch in batches:
            if isinstance(batch, Mapping):
                model(**batch)
            else:
                model(batch)


def _read_traces(paths: list[str], see: See) -> None:
    first = None
    for path in paths:
        trace = _core.Trace.open(path)
        first = first or trace
        for what in ("model", "layers", "scale", "causal"):
            expected, got = getattr(first, what), getattr(trace, what)
            if got != expected:
                raise ValueError(
                    f"{path}: {what}: expected {expected!r} as in {paths[0]}, got {got!r}"
                )
        trace.check_finite()
        same = trace.n_q == trace.n_k
        for layer in range(trace.layers):
            q, k, v, bias = trace.layer(layer)
            see(
                layer,
                Inputs(
                    q,
                    k,
                    v,
                    trace.scale,
                    trace.causal,
                    bias=bias,
                    query_lengths=trace.lengths if same else (),
                    key_lengths=trace.lengths,
                ),
            )


def _read_tensors(source: Iterable[Any], see: See) -> None:
    for item in source:
        if not isinstance(item, Sequence) or len(item) not in (4, 5):
            raise TypeError(
                "calibrate: expected a model, paths, or (layer, query, key, value[, options]), got "
                f"{type(item).__name__}"
            )
        layer, query, key, value, *options = item
        keywords = dict(options[0]) if options else {}
        require_one_kind(query=query, key=key, value=value, attn_mask=keywords.get("attn_mask"))
        see(layer, prepare(query, key, value, **keywords))
