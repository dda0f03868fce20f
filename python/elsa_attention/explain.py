"""Why one query kept some keys and dropped others. Source: Sec. III-D, III-E."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elsa_attention import _core
from elsa_attention._tensors import Tensor, require_one_kind
from elsa_attention.inputs import prepare
from elsa_attention.plan import Plan, require_plan


@dataclass(frozen=True)
class KeyExplanation:
    """One visible key: the quantities of the decision beside the truth."""

    key: int
    score: float  # scale * q . k + bias
    weight: float  # exact softmax weight over the visible keys
    key_norm: float  # of the centred key if centred
    distance: int  # Hamming, of the hash's bits
    true_angle_rad: float
    angle_rad: float  # estimated, corrected and clamped
    similarity: float  # estimated: key norm * cosine of the estimated angle
    true_similarity: float
    estimated_score: float
    kept: bool
    why: str  # one sentence with the numbers


@dataclass(frozen=True)
class QueryExplanation:
    """One query of one head, and the keys it sees in ascending order."""

    layer: int
    head: int
    batch: int
    query: int
    rule: str
    exact: bool  # selection was bypassed; every key is kept
    fallback: bool  # the test kept none: the best estimate was kept
    centred: bool
    bias_in_test: bool
    threshold: float | None  # None if exact
    cut_off: float | None  # threshold * key_norm_max; for "gap" a score. None if exact
    query_norm: float
    key_norm_max: float
    mass_kept: float
    keys: tuple[KeyExplanation, ...]

    @property
    def kept(self) -> list[int]:
        """The kept keys, ascending."""
        return [key.key for key in self.keys if key.kept]


def explain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    plan: Plan,
    head: int,
    query_index: int,
    layer: int = 0,
    batch: int = 0,
    lengths: Sequence[int] | Tensor | None = None,
    tokens: Sequence[str] = (),
) -> QueryExplanation:
    """Explains one query of `attention` with the same arguments.

    Args:
        head, query_index, batch: which query.
        tokens: names of the keys for the sentences.

    Raises:
        ValueError: as `attention`; head, batch or query out of range or padding.
    """
    require_one_kind(query=query, key=key, value=value, attn_mask=attn_mask)
    require_plan(plan)
    inputs = prepare(query, key, value, attn_mask, is_causal, scale, enable_gqa, lengths)
    found = _core.explain(
        *inputs.arguments(), plan.native, layer, batch, head, query_index, list(tokens)
    )
    keys = tuple(KeyExplanation(**one) for one in found.pop("keys"))
    return QueryExplanation(**found, keys=keys)
