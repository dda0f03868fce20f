"""The keys that a plan keeps, as boolean masks in torch: input for peers that can use one.

Written after docs/reference/selection.md in matrix form; a tie may fall otherwise than in the
engines, which matters to nobody here: truth is computed over the same mask.
"""

from __future__ import annotations

import math
from typing import Any

import elsa_attention as ea
from elsa_attention.bench.cases import Problem, visible


def kept_keys(problem: Problem, i: int, plan: ea.Plan, precision: str = "float32") -> Any:
    """What the plan keeps of call i in the dtype of a precision; plans without centring and bias.

    Shapes: [heads, n_q, n_k] bool.
    """
    import torch

    call = problem.tensors(precision)[i]
    heads, n_q, n_k = call.q.shape[1], call.q.shape[2], call.k.shape[2]
    group = heads // call.k.shape[1]
    sees = torch.ones(n_q, n_k, dtype=torch.bool)
    if problem.case.causal:
        sees = visible(torch.arange(n_q), n_k)[0, 0]
    layer = call.layer if plan.layers > 1 else 0
    kept = torch.empty(heads, n_q, n_k, dtype=torch.bool)
    for head in range(heads):
        threshold = plan.thresholds[layer][head]
        if threshold is None:
            kept[head] = sees
            continue
        q, k = call.q[0, head].float(), call.k[0, head // group].float()
        similarity = _similarity(plan, layer, head, q, k).masked_fill(~sees, -torch.inf)
        norms = k.norm(dim=1).expand(n_q, n_k).masked_fill(~sees, 0)
        chosen = similarity > threshold * norms.amax(dim=1, keepdim=True)
        best = torch.nn.functional.one_hot(similarity.argmax(dim=1), n_k).bool()
        kept[head] = (chosen | (best & ~chosen.any(dim=1, keepdim=True))) & sees
    return kept


def _similarity(plan: ea.Plan, layer: int, head: int, q: Any, k: Any) -> Any:
    """The estimate |k| cos(theta). Shapes: [n_q, n_k]."""
    import torch

    signs = [torch.from_numpy(plan.hash.sign_bits(x.numpy())).float() * 2 - 1 for x in (q, k)]
    hamming = (plan.hash_bits - signs[0] @ signs[1].mT) / 2
    biases = plan.theta_bias_rad
    bias = biases[0][0] if len(biases) == len(biases[0]) == 1 else biases[layer][head]
    theta = (math.pi / plan.hash_bits * hamming - bias).clamp(0, math.pi)
    return k.norm(dim=1) * theta.cos()
