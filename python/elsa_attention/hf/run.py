"""Plans on Hugging Face models, and what they did there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from elsa_attention._tensors import Tensor
from elsa_attention.accelerator import Accelerator
from elsa_attention.engines import Engine, Outcome
from elsa_attention.hf import attachment
from elsa_attention.hf.attachment import Attachment, layer_count, require_model
from elsa_attention.inputs import Inputs, attend_without_padding, integer, skip_padding
from elsa_attention.plan import Plan, require_plan
from elsa_attention.report import Formats, Report
from elsa_attention.stats import HeadStats

if TYPE_CHECKING:
    from elsa_attention.hf.backend import Call
    from elsa_attention.hf.cache import ModelCache


class Run(Attachment):
    """A plan on a model, from `apply` to close(); counts what it computed."""

    def __init__(self, model: Any, plan: Plan | None, engine: Engine, collect: bool):
        self.plan = plan
        self._engine = engine
        self._collect = collect
        self._stats: dict[tuple[int, int], HeadStats] = {}
        self._formats: Formats | None = None
        self._report: Report | None = None
        self._computed: tuple[str, str] | None = None
        self._lock = threading.Lock()
        super().__init__(model)

    @property
    def stats(self) -> dict[tuple[int, int], HeadStats]:
        """The counts so far, by (layer, head)."""
        with self._lock:
            return dict(sorted(self._stats.items()))

    @property
    def total(self) -> HeadStats:
        """The counts so far of all layers and heads together."""
        return HeadStats.total(self.stats.values())

    @property
    def report(self) -> Report | None:
        """Cycles and energy so far, all calls together; None unless the engine is sim."""
        return self._report

    @property
    def formats(self) -> Formats | None:
        """Where values met the ends of the accelerator's formats; None for engine reference."""
        return self._formats

    @property
    def target(self) -> str | None:
        """The instruction set that computes, as `cpu_targets` names it.

        None unless the engine is cpu and counts are collected.
        """
        return self._computed and self._computed[0]

    @property
    def precision(self) -> str | None:
        """What precision="auto" became in the latest call; None unless as for `target`."""
        return self._computed and self._computed[1]

    def reset(self) -> None:
        """Starts counting anew."""
        with self._lock:
            self._stats.clear()
            self._formats = self._report = None

    def kv_cache(self, capacity: int = 0) -> ModelCache:
        """An empty cache for the model's `past_key_values`, whose decoding steps are cheap.

        It holds keys, hashes and norms as they come, so that a step computes what it would with
        transformers' own cache without hashing all keys again. Keys and values are stored in the
        model's dtype and computed with in float32. It serves one batch at a time, in this run.

        Args:
            capacity: tokens to make room for at once; the cache grows as it needs.

        Raises:
            ValueError: an engine other than cpu, or layers that have no such cache.
        """
        if self._engine.name != "cpu":
            raise ValueError(f"kv_cache: expected engine cpu, got {self._engine.name}")
        from elsa_attention.hf.cache import ModelCache

        return ModelCache(self._model(), self.plan, integer("capacity", capacity, 0))

    def _attend(self, layer: int, call: Call) -> Tensor:
        if self._engine.name == "cpu":
            return self._attend_by_cpu(layer, call)

        def run(inputs: Inputs, out: Any) -> None:
            padded = 0
            if self._engine.accelerator is None:
                padded = skip_padding(inputs)
                outcome = self._engine.attend(inputs, self.plan, layer, out)
            else:
                outcome = attend_without_padding(
                    inputs, out, lambda rows, to: self._engine.attend(rows, self.plan, layer, to)
                )
            if self._collect:
                self._add(layer, outcome, padded)

        return call.compute(run)

    def _attend_by_cpu(self, layer: int, call: Call) -> Tensor:
        seen = self.visible(call)
        options = self._engine.cpu_options
        out, stats = call.by_cpu(seen, self.plan, layer, options, self._collect)
        if self._collect:
            self._computed = (stats.target, stats.precision)
            self._add(layer, Outcome(stats), seen.padded)
        return out

    def _add(self, layer: int, outcome: Outcome, padded: int) -> None:
        """Adds the counts of a call; `padded` queries of each head in them were padding."""
        padding = HeadStats(queries=-padded, empty_queries=-padded)
        with self._lock:
            for head, stats in enumerate(outcome.stats):
                more = stats + padding if padded else stats
                before = self._stats.get((layer, head))
                self._stats[layer, head] = more if before is None else before + more
            self._formats = _sum(self._formats, outcome.formats)
            self._report = _sum(self._report, outcome.report)


def _sum(before: Any, more: Any) -> Any:
    return more if before is None else before + more


def apply(
    model: Any,
    plan: Plan | None,
    *,
    engine: str = "reference",
    accelerator: Accelerator | None = None,
    threads: int | None = None,
    precision: str = "auto",
    select: str = "auto",
    measure_mass: bool = False,
    random_keys_seed: int | None = None,
    collect: bool = True,
    model_name: str | None = None,
) -> Run:
    """Runs a Hugging Face model with a plan until the result's close() is called.

    Works for encoders and decoders whose attention goes through transformers' interface. Padding
    is recognised from the attention mask, on either side: padded tokens are skipped as keys and as
    queries, and not counted. The plan belongs to this model object; others are untouched.

    With engine="cpu" the model runs fast: on its own tensors of 32 or 16 bits, and a head exactly
    where that is as fast as selecting keys. With engine="sim" it runs on the simulated accelerator:
    its accuracy, and in `Run.report` cycles and energy, in one run.

    Args:
        plan: what `calibrate` learned; None is exact (with "fixed" and "sim": the accelerator's
            number formats alone).
        engine, accelerator, threads, precision, select, measure_mass, random_keys_seed: as in
            `attention`.
        collect: count what is computed, for `Run.stats`, `Run.total` and `Run.report`.
        model_name: the name under which the plan was learned; by default the last part of
            model.name_or_path. Compared with plan.model where both are known.

    Raises:
        TypeError: not a transformers model.
        ValueError: a plan of another model or shape, or a model that cannot be approximated.
    """
    chosen = Engine.make(
        engine, accelerator, threads, measure_mass, random_keys_seed, precision, select
    )
    require_plan(plan)
    require_model(model)
    if plan is not None:
        _require_fit(model, plan, model_name)
    return Run(model, plan, chosen, collect)


@contextlib.contextmanager
def applied(model: Any, plan: Plan | None, **options: Any) -> Iterator[Run]:
    """`apply` for a `with` block: the model is as before afterwards, also after an exception.

    Blocks nest: the inner plan counts. The options are those of `apply`.
    """
    run = apply(model, plan, **options)
    try:
        yield run
    finally:
        run.close()


def _require_fit(model: Any, plan: Plan, name: str | None) -> None:
    config = model.config
    name = attachment.model_name(model) if name is None else name
    if plan.model and name and plan.model != name:
        raise ValueError(
            f"plan: expected one of model {name!r}, got one of {plan.model!r}; "
            f"model_name={plan.model!r} says that they are the same"
        )
    heads = config.num_attention_heads
    for what, expected, got in (
        ("layers", {layer_count(model)}, {plan.layers}),
        ("heads", {heads}, set(plan.heads)),
    ):
        if expected != got:
            told, found = (", ".join(map(str, sorted(x))) for x in (expected, got))
            raise ValueError(f"plan: {what}: expected {told} as in the model, got {found}")
    d = max(_head_sizes(model), default=plan.d)
    if plan.d < d:
        raise ValueError(f"plan: hash.d: expected {d} or more as in the model, got {plan.d}")
    if plan.centring != "off" and any(getattr(m, "is_causal", False) for m in model.modules()):
        raise ValueError(
            "plan: centring: expected off for a causal model, whose mean key grows with the "
            f"sequence, got {plan.centring}"
        )


def _head_sizes(model: Any) -> set[int]:
    """What the attention modules say about d; the core checks the tensors themselves later."""
    names = ("head_dim", "attention_head_size")
    found = (getattr(module, name, None) for module in model.modules() for name in names)
    return {size for size in found if isinstance(size, int)}
