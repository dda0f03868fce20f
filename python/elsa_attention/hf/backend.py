"""The attention and mask functions that transformers calls under the name "elsa".

Both are registered: with the attention function alone transformers passes no mask at all, padded
batches included. A plan, if there is one, belongs to the model (attachment.py); without one "elsa"
is exact. Nothing is patched.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from elsa_attention import _core, cpu
from elsa_attention._tensors import Tensor, mask_array, result_like, without_gradient
from elsa_attention.hf import attachment
from elsa_attention.hf.masks import Visible
from elsa_attention.inputs import Inputs, prepare
from elsa_attention.plan import Plan
from elsa_attention.stats import CallStats

NAME = "elsa"

_MOST_COMPONENTS = 256  # of a row, to the CPU engine
# Terms of other attentions that would change the result; None is how models say "not used".
_UNKNOWN_TERMS = ("softcap", "s_aux", "cache", "block_mask", "head_mask")


def register(name: str = NAME) -> None:
    """Makes attn_implementation=`name` known to transformers. Calling it again does no harm.

    Then `AutoModel.from_pretrained(..., attn_implementation="elsa")` or
    `model.set_attn_implementation("elsa")`; exact until a plan is applied to the model.

    Raises:
        ImportError: transformers is not installed.
        ValueError: the name already means another attention to transformers.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    known = AttentionInterface()
    special = ("eager", "sdpa", "flash", "flex", "paged", "|", "/")
    if (name in known and known[name] is not attend) or any(word in name for word in special):
        raise ValueError(f"register: expected a name of its own, got {name!r}")
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function, as transformers calls it.

    Shapes: query [batch, heads, n_q, d], key and value [batch, kv_heads, n_k, d]; returns
    [batch, n_q, heads, d] and None for the weights.
    """
    if dropout:
        raise ValueError(
            f"elsa: expected no attention dropout, got {dropout}: call model.eval() first"
        )
    for term in _UNKNOWN_TERMS:
        if kwargs.get(term) is not None:
            raise ValueError(f"elsa: expected plain softmax attention, got {term}")
    if kwargs.get("output_attentions"):
        raise ValueError(
            "elsa: expected output_attentions=False, got True: the weights are never formed; use "
            'attn_implementation="eager" to see them, or elsa_attention.explain'
        )
    # A decoder says on the module that it is causal; it means the calls that bring no mask, and
    # not a single query, which stands behind all the keys of its cache.
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    causal = bool(is_causal) and attention_mask is None and query.shape[2] > 1
    if causal and not _is_cached(key):  # a static cache is longer than what was written to it
        key, value = key[:, :, : query.shape[2]], value[:, :, : query.shape[2]]
        if position_bias is not None:
            position_bias = position_bias[..., : query.shape[2]]
    call = Call(query, key, value, attention_mask, position_bias, scaling, causal)
    current = attachment.current(module)
    if current is None:
        return call.exact(), None
    return current.attend(module, call), None


def _is_cached(key: Tensor) -> bool:
    """Whether the keys are those of a `ModelCache` (cache.py), which has them and no tensor."""
    return hasattr(key, "cached_layer")


class Call:
    """One attention call of a model."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        position_bias: Tensor | None,
        scale: float | None,
        causal: bool,
    ):
        self.tensors = (query, key, value, mask, position_bias)
        self.causal = causal
        self.scale = scale

    def inputs(self) -> Inputs:
        """The call as the core takes it, padding included."""
        query, key, value, mask, position_bias = self.tensors
        inputs = prepare(query, key, value, mask, False, self.scale, enable_gqa=True)
        inputs.causal = self.causal
        if position_bias is not None:
            pairs = (*inputs.query.shape[:3], inputs.key.shape[2])
            bias = np.broadcast_to(mask_array("position_bias", position_bias), pairs)
            inputs.bias = bias if inputs.bias is None else inputs.bias + bias
        return inputs

    def compute(self, run: Any) -> Tensor:
        """run(inputs, out) as a tensor [batch, n_q, heads, d_v], without a gradient."""
        query, _, value, *_ = self.tensors

        def compute() -> Tensor:
            inputs = self.inputs()
            batch, heads, n_q, _ = inputs.query.shape
            out = np.empty((batch, n_q, heads, value.shape[-1]), np.float32)
            run(inputs, out.transpose(0, 2, 1, 3))
            return result_like(out, query)

        return without_gradient(compute, *self.tensors)

    def by_cpu(
        self,
        seen: Visible,
        plan: Plan | None,
        layer: int,
        options: tuple[int, str, str],
        count: bool = True,
    ) -> tuple[Tensor, CallStats]:
        """By the CPU engine, on the model's own tensors: [batch, n_q, heads, d_v], and counts.

        options: threads, precision, select. Without `count` the counts are empty.
        """
        query, key, value, _, bias = self.tensors
        mask = seen.mask
        if _is_cached(key):
            return self._by_cache(plan, layer, options, count)
        if mask is not None and bias is not None and mask.is_floating_point():
            mask, bias = None, mask + bias
        report: Any = NotImplemented

        def compute() -> Tensor:
            nonlocal report
            batch, heads, n_q, _ = query.shape
            out = query.new_empty(batch, n_q, heads, value.shape[-1])
            report = _core.cpu_attention(
                query, key, value, mask, bias, seen.query_lengths, seen.key_lengths, self.scale,
                self.causal or seen.causal, True, None if plan is None else plan.native, layer,
                out.transpose(1, 2), None, *options, count,
            )  # fmt: skip
            return out

        result = without_gradient(compute, *self.tensors)
        if report is not NotImplemented:
            return result, CallStats() if report is None else cpu.stats_of(report)
        # Dtypes that the engine does not read: as float32.
        stats = CallStats()

        def run(inputs: Inputs, out: np.ndarray) -> None:
            nonlocal stats
            if inputs.mask is not None:
                pairs = inputs.mask.shape
                inputs.mask = None if mask is None else np.broadcast_to(mask.numpy(), pairs)
            inputs.causal = self.causal or seen.causal
            inputs.query_lengths, inputs.key_lengths = seen.query_lengths, seen.key_lengths
            stats = cpu.attend(inputs, plan, layer, out, options)

        return self.compute(run), stats

    def _by_cache(
        self, plan: Plan | None, layer: int, options: tuple[int, str, str], count: bool
    ) -> tuple[Tensor, CallStats]:
        """By the cache that the keys stand for."""
        query, key, _, mask, bias = self.tensors
        if mask is None or bias is None:
            mask = bias if mask is None else mask
        elif mask.is_floating_point():
            mask = mask + bias
        else:
            mask = bias.where(mask, float("-inf"))
        return key.cached_layer.attend(
            query, key, mask, self.causal, self.scale, plan, layer, options, count
        )

    def exact(self) -> Tensor:
        """Exact attention, [batch, n_q, heads, d_v]: by the CPU engine as far as it goes."""
        query, _, value, mask, _ = self.tensors
        if max(query.shape[-1], value.shape[-1]) <= _MOST_COMPONENTS:
            return self.by_cpu(Visible(mask), None, 0, (0, "auto", "auto"), False)[0]
        return self.compute(lambda inputs, out: inputs.attend(None, 0, out, 0))

    def by_torch(self) -> Tensor:
        """Exact attention by torch's own kernel where it has the words for the call."""
        query, key, value, mask, position_bias = self.tensors
        if position_bias is not None:
            return self.exact()
        from torch.nn.functional import scaled_dot_product_attention

        return scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=self.causal,
            scale=self.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        ).transpose(1, 2)
