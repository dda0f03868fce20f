"""Whether a contestant's result is right, before anything is timed.

Truth is computed in double on a sample of rows: exact attention here, ELSA's by the engine
`reference`, whose decisions define what a plan keeps. A head that the engine `cpu` chose to compute
exactly may equal exact attention instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import elsa_attention as ea
from elsa_attention.bench.cases import Call, Problem, sample_rows, visible

# Largest relative L2 error of a head's sampled rows. float32: sums of thousands of terms, and
# exponentials by polynomials. The others: what the engine states (4e-3, 1.5e-2 on normal rows), the
# rounding of 16-bit results, and real heads' wider rows.
TOLERANCE = {"float32": 2e-5, "16bit": 2e-2, "int8": 5e-2}

_ROWS = 64


@dataclass(frozen=True)
class Verdict:
    """A contestant's result against the truth."""

    error_rel_l2: float  # of the worst head, against what it should have computed
    tolerance: float
    output_rel_l2: float  # of everything sampled, against exact attention
    finite: bool

    @property
    def right(self) -> bool:
        return self.finite and self.error_rel_l2 <= self.tolerance


class Truth:
    """What results of one problem should be; computed when first asked for, then kept."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self._rows = [sample_rows(call.q.shape[2], _ROWS) for call in problem.calls]
        self._known: dict[tuple, list[Any]] = {}

    def judge(
        self,
        results: list[Any],
        precision: str,
        share: float | None = None,
        masks: Any = None,
        may_be_exact: bool = True,
    ) -> Verdict:
        """Compares results, one tensor [1, heads, n_q, d] per call.

        `share` names the plan that was used, None = exact. `masks`, one [heads, n_q, n_k] per call,
        are the keys to which the contestant was confined. A head with a plan may be exact, because
        that is as fast, if `may_be_exact`.
        """
        import torch

        exact = self._of("exact", precision, lambda i, c: self._exact(i, c, None))
        accepted = [exact] if share is None or may_be_exact else []
        if masks is not None:
            key = f"masked {share} {may_be_exact}"
            accepted.append(self._of(key, precision, lambda i, c: self._exact(i, c, masks[i])))
        elif share is not None:
            accepted.append(self._of(share, precision, lambda i, c: self._elsa(i, c, share)))
        worst, finite, from_exact, norm = 0.0, True, 0.0, 0.0
        for i, result in enumerate(results):
            finite = finite and bool(torch.isfinite(result).all())
            sampled = result[:, :, self._rows[i]].double()
            errors = torch.stack([_head_errors(sampled, truth[i]) for truth in accepted])
            worst = max(worst, float(errors.min(dim=0).values.max()))
            from_exact += float((sampled - exact[i]).square().sum())
            norm += float(exact[i].square().sum())
        return Verdict(worst, TOLERANCE[precision], (from_exact / norm) ** 0.5, finite)

    def _of(self, what: Any, precision: str, compute: Any) -> list[Any]:
        """Truth depends on the dtype of the inputs: rounding them is no error of a contestant."""
        key = (what, precision == "float32")
        if key not in self._known:
            tensors = self._problem.tensors(precision)
            self._known[key] = [compute(i, call) for i, call in enumerate(tensors)]
        return self._known[key]

    def _exact(self, i: int, call: Call, mask: Any) -> Any:
        """Shapes: [1, heads, rows, d]; mask [heads, n_q, n_k] bool."""
        import torch

        rows = self._rows[i]
        group = call.q.shape[1] // call.k.shape[1]
        scale = self._problem.scale or call.q.shape[3] ** -0.5
        out = []
        for head in range(call.q.shape[1]):  # head by head: a double copy of a long cache is large
            scores = call.q[0, head, rows].double() @ call.k[0, head // group].double().mT * scale
            if self._problem.case.causal:
                scores = scores.masked_fill(~visible(rows, call.k.shape[2])[0, 0], -torch.inf)
            if mask is not None:
                scores = scores.masked_fill(~mask[head, rows], -torch.inf)
            out.append(scores.softmax(-1) @ call.v[0, head // group].double())
        return torch.stack(out)[None]

    def _elsa(self, i: int, call: Call, share: float) -> Any:
        rows, causal = self._rows[i], self._problem.case.causal
        result = ea.attention(
            call.q[:, :, rows].float(),
            call.k.float(),
            call.v.float(),
            visible(rows, call.k.shape[2]) if causal else None,
            scale=self._problem.scale,
            enable_gqa=True,
            plan=self._problem.plans[share],
            layer=call.layer,
            engine="reference",
        )
        return result.double()


def _head_errors(result: Any, truth: Any) -> Any:
    """Relative L2 error of each head. Shapes: [heads]."""
    difference = (result - truth).square().sum(dim=(0, 2, 3))
    return (difference / truth.square().sum(dim=(0, 2, 3))).sqrt()
