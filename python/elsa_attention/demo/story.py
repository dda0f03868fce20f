"""Picks one query of a captured sequence and tells, by tokens, why keys were kept or dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import elsa_attention as ea

_SHOWN_LENGTH = 64  # Our choice: tokens that one picture can name


@dataclass(frozen=True)
class Scene:
    """One head of one captured sequence, and the query the story is about."""

    trace: Path
    model: str
    tokens: list[str]
    layer: int
    head: int
    query: int
    kept_key: int
    dropped_key: int
    explanations: list[ea.QueryExplanation]  # of every query of the head


def pick_sequence(sequences: list[list[int]]) -> list[int]:
    """The sequence whose length is nearest to what a picture can name."""
    return min(sequences, key=lambda ids: (abs(len(ids) - _SHOWN_LENGTH), ids))


def pick_scene(trace_path: Path, plan: ea.Plan) -> Scene:
    """The head whose kept fraction is nearest to a quarter, and in it the query that puts the most
    weight on another token that it keeps, and drops some other token."""
    trace = ea.Trace.open(str(trace_path))
    best = min(
        (
            (
                abs(float(np.mean([k.kept for e in head for k in e.keys])) - 0.25),
                layer,
                number,
                head,
            )
            for layer in range(trace.layers)
            for number, head in enumerate(_explain_layer(trace, plan, layer))
        ),
        key=lambda found: found[:3],
    )
    _, layer, number, explanations = best
    tokens = trace.tokens(0)
    scenes = []
    for e in explanations:
        others = [k for k in e.keys if k.key != e.query and _is_content(tokens[k.key])]
        kept = max((k for k in others if k.kept), key=lambda k: k.weight, default=None)
        dropped = max((k for k in others if not k.kept), key=lambda k: k.weight, default=None)
        if kept and dropped and _is_content(tokens[e.query]) and not e.fallback:
            scenes.append((kept.weight, -e.query, e, kept, dropped))
    if not scenes:
        raise ValueError(f"{trace_path}: expected a query that keeps and drops keys, got none")
    _, _, e, kept, dropped = max(scenes, key=lambda s: s[:2])
    return Scene(
        trace_path, trace.model, tokens, layer, number, e.query, kept.key, dropped.key, explanations
    )


def tell(scene: Scene, plan_path: Path) -> str:
    """The story in a few lines, with the command that shows all of it."""
    e = scene.explanations[scene.query]
    keys = {k.key: k for k in e.keys}
    count = sum(k.kept for k in e.keys)
    words = "".join(
        f" {token}" if not token.startswith("##") else token[2:]
        for token in scene.tokens
        if _is_content(token)
    )
    return "\n".join(
        [
            f"{scene.model}, layer {scene.layer}, head {scene.head}, "
            f"query {scene.query} '{scene.tokens[scene.query]}' in:{words[:160]} ...",
            f"  kept {count} of {len(e.keys)} keys, {100 * e.mass_kept:.1f} % of the weight",
            f"  kept:    {keys[scene.kept_key].why}",
            f"  dropped: {keys[scene.dropped_key].why}",
            f"  build/release/elsa inspect {scene.trace} --plan {plan_path} --layer {scene.layer} "
            f"--head {scene.head} --query {scene.query}",
        ]
    )


def _explain_layer(trace: ea.Trace, plan: ea.Plan, layer: int) -> list[list[ea.QueryExplanation]]:
    """[head][query] of the first sequence."""
    q, k, v, _ = trace.layer(layer)
    options = {
        "scale": trace.scale,
        "is_causal": trace.causal,
        "enable_gqa": True,
        "plan": plan,
        "layer": layer,
        "lengths": trace.lengths,
        "tokens": trace.tokens(0),
    }
    return [
        [ea.explain(q, k, v, head=head, query_index=i, **options) for i in range(trace.lengths[0])]
        for head in range(q.shape[1])
    ]


def _is_content(token: str) -> bool:
    """Not a special token such as [CLS]."""
    return not (token.startswith(("[", "<")) and token.endswith(("]", ">")) and token.isupper())
