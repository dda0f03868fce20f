"""The operator `elsa::attention` of torch: ELSA's CPU engine inside torch.compile and torch.export.

    from elsa_attention import torch_ops

    number = torch_ops.register_plan(plan)
    torch.ops.elsa.attention(query, key, value, is_causal=True, plan=number, layer=3)

Importing this module imports torch and defines the operator. Operators take numbers and no objects,
so a plan is named by the number under which it was registered.
"""

from __future__ import annotations

import itertools
import threading

import torch

from elsa_attention import cpu
from elsa_attention._tensors import gradient_refused
from elsa_attention.plan import Plan, require_plan

__all__ = ["attention", "register_plan", "unregister_plan"]

_lock = threading.Lock()
_plans: dict[int, Plan] = {}
_numbers = itertools.count(1)  # 0 is "no plan"


def register_plan(plan: Plan) -> int:
    """The number that names `plan` to the operator in this process; each call gives a new one.

    The plan is kept until `unregister_plan` or the end of the process, because a compiled graph
    holds the number alone. A number is never given twice.
    """
    if plan is None:
        raise TypeError("plan: expected an elsa_attention.Plan, got None; 0 is the number of none")
    require_plan(plan)
    with _lock:
        number = next(_numbers)
        _plans[number] = plan
    return number


def unregister_plan(number: int) -> None:
    """Lets go of a plan; graphs that still name it raise ValueError. Errors: ValueError."""
    with _lock:
        if _plans.pop(number, None) is None:
            raise _unknown(number)


def _unknown(number: int) -> ValueError:
    return ValueError(f"plan: expected a number that register_plan gave, got {number}")


_library = torch.library.Library("elsa", "FRAGMENT")
_library.define(
    "attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, "
    "bool is_causal=False, float? scale=None, bool enable_gqa=False, Tensor? lengths=None, *, "
    'int plan=0, int layer=0, int threads=0, str precision="auto", str select="auto") -> Tensor'
)


def _attention(
    query,
    key,
    value,
    attn_mask=None,
    is_causal=False,
    scale=None,
    enable_gqa=False,
    lengths=None,
    *,
    plan=0,
    layer=0,
    threads=0,
    precision="auto",
    select="auto",
):
    native = _plans.get(plan)
    if native is None and plan != 0:
        raise _unknown(plan)
    with torch.no_grad():
        out = cpu.attention(
            query, key, value, attn_mask, is_causal, scale, enable_gqa, native, layer, lengths,
            threads or None, precision, select, False, False,
        )  # fmt: skip
        return out.contiguous()


def _fake(query, key, value, *_, **__):
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _backward(context, gradient):
    raise gradient_refused()


_library.impl("attention", _attention, "CompositeExplicitAutograd")
torch.library.register_fake("elsa::attention", _fake, lib=_library)
torch.library.register_autograd("elsa::attention", _backward, lib=_library)

# The operator. Words, shapes, dtypes and errors are those of `elsa_attention.attention` with
# engine="cpu"; `lengths` is an int64 tensor, plan a number, and threads=0 one per processor. The
# result is contiguous.
attention = torch.ops.elsa.attention
