"""What a model's mask says, in the words that the CPU engine is fast with: causal and lengths.

transformers gives one mask to all layers of a pass, so this is found out once per pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elsa_attention._tensors import Tensor


@dataclass(frozen=True)
class Visible:
    """What the queries of a call may see."""

    mask: Tensor | None = None  # what the other words do not say already
    causal: bool = False
    query_lengths: Sequence[int] = ()
    key_lengths: Sequence[int] = ()
    padded: int = 0  # queries per head that are padding, and that the core counts as empty ones


def visible(mask: Tensor | None, batch: int) -> Visible:
    """Reads a mask [batch or 1, heads or 1, n_q, n_k] of a call without its own causal limit.

    Only of self-attention without a cache (n_q = n_k) is padding known: tokens that no query may
    see. Their own rows become 0, as in `inputs.skip_padding`.
    """
    import torch

    if mask is None or mask.dtype != torch.bool or mask.ndim != 4:
        return Visible(mask)
    n_q, n_k = mask.shape[2:]
    if n_q != n_k or mask.shape[0] not in (1, batch):
        return Visible(mask)
    mask = mask.expand(batch, -1, -1, -1)
    seen = mask.any(dim=2).any(dim=1)  # [batch, n]
    lengths = seen.sum(dim=1)
    prefix = torch.arange(n_k) < lengths[:, None]
    if torch.equal(seen, prefix):
        if bool((mask == prefix[:, None, None]).all()):
            spans = lengths.tolist()
            return Visible(None, False, spans, spans)
        triangle = torch.ones(n_q, n_k, dtype=torch.bool).tril()
        if bool((mask == (prefix[:, None, None] & triangle)).all()):
            spans = lengths.tolist()
            return Visible(None, True, spans, spans)
    if bool(seen.all()):
        return Visible(mask)
    return Visible(mask & seen[:, None, :, None], padded=int((~seen).sum()))


class VisibleOfPass:
    """`visible`, remembered for the masks of one forward pass of one thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], tuple[Tensor, Visible]] = {}

    def __call__(self, mask: Any, batch: int) -> Visible:
        """Errors: none."""
        if mask is None:
            return Visible()
        # Keeping the mask keeps its id its own; the version tells if it was written to since.
        key = (id(mask), 0 if mask.is_inference() else mask._version, batch)
        if key not in self._known:
            self._known[key] = (mask, visible(mask, batch))
        return self._known[key][1]

    def clear(self) -> None:
        """Forgets, at the ends of a pass."""
        self._known.clear()
