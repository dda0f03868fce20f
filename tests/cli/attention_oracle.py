"""A second, short implementation of the paper's method on a trace and a plan as JSON.

Written from the paper (Sec. III) in fp64 numpy, without a look at the C++: exact attention, the
sign hash as one explicit matrix, candidate selection, the mean row, and the threshold rule.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np


@dataclass
class Head:
    """What one head did over all sequences."""

    pairs: int = 0
    kept: int = 0
    queries: int = 0
    mass: float = 0.0
    difference: float = 0.0
    exact: float = 0.0

    def __add__(self, other: Head) -> Head:
        return Head(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    @property
    def figures(self) -> tuple[float, float, float]:
        """kept_fraction, mass_kept, output_rel_l2."""
        return (
            self.kept / self.pairs,
            self.mass / self.queries,
            (self.difference / self.exact) ** 0.5,
        )


def hash_matrix(spec: dict) -> np.ndarray:
    """The k x d projection: per batch the first rows of the Kronecker product of its factors."""
    rows = []
    for batch in spec["batches"]:
        factors = [np.reshape(f["values"], (f["rows"], f["cols"])) for f in batch["factors"]]
        rows.append(functools.reduce(np.kron, factors)[: batch["bits"]])
    return np.concatenate(rows)


def hamming(projection: np.ndarray, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    return ((q @ projection.T >= 0)[:, None, :] != (k @ projection.T >= 0)[None, :, :]).sum(-1)


def similarity(plan: dict, layer: int, head: int, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Estimated ||key|| cos(angle) of every query with every key."""
    theta_bias = plan["theta_bias_rad"]
    if isinstance(theta_bias, list):
        theta_bias = theta_bias[layer][head]
    distance = hamming(hash_matrix(plan["hash"]), q, k)
    angle = np.maximum(np.pi / plan["hash"]["k"] * distance - theta_bias, 0)
    return np.linalg.norm(k, axis=-1) * np.cos(angle)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def sequences(tensors: dict, layer: int, head: int, *, scale: float, causal: bool):
    """q, k, v, scores and visibility of the real rows of each sequence, in fp64."""
    q, k, v = (tensors[f"layer.{layer}.{x}"].astype(np.float64) for x in "qkv")
    group = q.shape[1] // k.shape[1]
    for b in range(q.shape[0]):
        keys = int(tensors["lengths"][b]) if "lengths" in tensors else k.shape[2]
        queries = keys if q.shape[2] == k.shape[2] else q.shape[2]
        qb, kb, vb = q[b, head, :queries], k[b, head // group, :keys], v[b, head // group, :keys]
        scores = scale * qb @ kb.T
        bias = np.zeros_like(scores)
        if f"layer.{layer}.bias" in tensors:
            full = tensors[f"layer.{layer}.bias"].astype(np.float64)
            bias = np.broadcast_to(full, (q.shape[0], *full.shape[1:]))[b, head, :queries, :keys]
        visible = np.tri(queries, keys, dtype=bool) if causal else np.ones((queries, keys), bool)
        yield qb, kb, vb, scores + bias, bias, visible


def attend(plan: dict, tensors: dict, layer: int, head: int, *, scale: float, causal=False):
    """The head's figures and, per sequence, its output rows."""
    total, outputs = Head(), []
    threshold = plan["thresholds"][layer][head]
    for q, k, v, scores, bias, visible in sequences(
        tensors, layer, head, scale=scale, causal=causal
    ):
        estimate = similarity(plan, layer, head, q, k)
        norms = np.linalg.norm(k, axis=-1)
        rows = []
        for i in range(len(q)):
            see = np.flatnonzero(visible[i])
            keep = see
            if threshold is not None and plan["target"].get("p") != 0:
                keep = see[estimate[i, see] > threshold * norms[see].max()]
                if len(keep) == 0:
                    keep = see[[np.argmax(estimate[i, see])]]
            true = softmax(scores[i, see])
            exact = true @ v[see]
            values, s = v[keep], scores[i, keep]
            weights = np.exp(s - scores[i, see].max())
            if plan["remainder"] == "mean" and len(keep) < len(see):
                mean_score = scale * q[i] @ k[see].mean(0) + bias[i, see].mean()
                mean_weight = (len(see) - len(keep)) * np.exp(mean_score - scores[i, see].max())
                weights = np.append(weights, mean_weight)
                values = np.vstack([values, v[see].mean(0)])
            row = weights @ values / weights.sum()
            rows.append(row)
            total += Head(
                len(see),
                len(keep),
                1,
                true[np.isin(see, keep)].sum(),
                ((row - exact) ** 2).sum(),
                (exact**2).sum(),
            )
        outputs.append(np.array(rows))
    return total, outputs


def threshold(tensors: dict, layer: int, head: int, *, p: float, scale: float) -> float:
    """Sec. III-E: the mean over queries of the smallest relevant score / (|q| largest |k|)."""
    values = []
    for q, k, _, scores, _, _ in sequences(tensors, layer, head, scale=scale, causal=False):
        norm_max = np.linalg.norm(k, axis=-1).max()
        for i in range(len(q)):
            weights = softmax(scores[i])
            relevant = np.flatnonzero(weights > p / len(k))
            j = relevant[np.argmin(weights[relevant])] if len(relevant) else np.argmax(weights)
            values.append(q[i] @ k[j] / (np.linalg.norm(q[i]) * norm_max))
    return float(np.mean(values))
