"""The boundary between numpy arrays, torch tensors and the C++ core.

The core reads float32 arrays on the CPU where they are, whatever their strides. A torch tensor
becomes a numpy view of the same memory; only another dtype is converted. torch is never imported
for numpy inputs.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Tensor = Any  # numpy.ndarray or torch.Tensor, the same kind in and out


def is_torch(x: object) -> bool:
    """Whether x is a torch tensor; without torch loaded nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def require_one_kind(**tensors: object) -> None:
    """Refuses anything but all numpy arrays or all torch tensors. None is skipped."""
    kinds = {}
    for name, x in tensors.items():
        if x is None:
            continue
        if not is_torch(x) and not isinstance(x, np.ndarray):
            raise TypeError(
                f"{name}: expected a numpy array or torch tensor, got {type(x).__name__}"
            )
        kinds[name] = "torch tensor" if is_torch(x) else "numpy array"
    if len(set(kinds.values())) > 1:
        got = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise TypeError(f"attention: expected tensors of one kind, got {got}")


def _numpy_view(name: str, x: Tensor) -> np.ndarray:
    """x as a numpy array on the same memory; bfloat16, which numpy lacks, as a float32 copy."""
    if not is_torch(x):
        return np.asarray(x)
    import torch

    x = _dense(name, x)
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def _dense(name: str, x: Tensor) -> Tensor:
    """A torch tensor without its history, on the CPU, with one stride per dimension."""
    import torch

    if x.layout != torch.strided:
        raise ValueError(f"{name}: expected a dense tensor, got layout {x.layout}")
    if x.device.type != "cpu":
        raise ValueError(f"{name}: expected a tensor on the CPU, got device {x.device}")
    return x.detach().resolve_neg()


def plain_tensor(name: str, x: Tensor) -> Tensor:
    """x of 32 or 16 bits with a last stride of 1: itself if it is so already, else a copy.

    float64 becomes float32.
    """
    if not is_torch(x):
        if x.dtype == np.float16 and x.dtype.isnative and x.flags.aligned:
            return x if _unit_rows(x.shape, x.strides, 2) else np.ascontiguousarray(x)
        x = float_array(name, x)
        return x if _unit_rows(x.shape, x.strides, 4) else np.ascontiguousarray(x)
    import torch

    x = _dense(name, x)
    if x.dtype == torch.float64:
        x = x.float()
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise _wrong_dtype(name, x)
    return x if _unit_rows(x.shape, x.stride(), 1) else x.contiguous()


def _unit_rows(shape: tuple[int, ...], strides: tuple[int, ...], step: int) -> bool:
    return shape[-1] <= 1 or strides[-1] == step


def _wrong_dtype(name: str, x: Tensor) -> TypeError:
    return TypeError(f"{name}: expected dtype float32, float16, bfloat16 or float64, got {x.dtype}")


def float_array(name: str, x: Tensor) -> np.ndarray:
    """x as float32, without a copy if it is float32 already."""
    array = _numpy_view(name, x)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise _wrong_dtype(name, x)
    if array.dtype != np.float32 or not array.dtype.isnative:
        with np.errstate(over="ignore"):  # float64 beyond float32's range becomes infinity
            return array.astype(np.float32)
    # Views into records can have odd strides, which element-wise strides cannot say.
    odd = not array.flags.aligned or any(stride % array.itemsize for stride in array.strides)
    return array.copy() if odd else array


def mask_array(name: str, x: Tensor) -> np.ndarray:
    """An attention mask as bool (True = visible) or float32 (added to the scores).

    The lowest finite value of a half-precision dtype is how models write "masked"; as float32 it
    would be an ordinary number, so it becomes -infinity here.
    """
    array = _numpy_view(name, x)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected dtype bool or a floating type, got {x.dtype}")
    floats = float_array(name, x)
    if array.dtype == np.float16:
        floats[floats <= np.finfo(np.float16).min] = -np.inf  # a copy already
    return floats


def result_like(out: np.ndarray, like: Tensor) -> Tensor:
    """A float32 result as the kind and dtype of `like`."""
    if not is_torch(like):
        return out.astype(like.dtype, copy=False)
    import torch

    return torch.from_numpy(out).to(like.dtype)


def without_gradient(compute: Callable[[], Tensor], *tensors: Tensor | None) -> Tensor:
    """Runs compute(); if a gradient through `tensors` is wanted, asking for it will be an error."""
    if gradient_is_wanted(*tensors):
        return _refusing_backward().apply(compute, *tensors)
    return compute()


def gradient_is_wanted(*tensors: Tensor | None) -> bool:
    """Whether torch would record how a result came from `tensors`."""
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and torch.is_grad_enabled()
        and any(isinstance(x, torch.Tensor) and x.requires_grad for x in tensors)
    )


@functools.cache
def _refusing_backward() -> Any:
    import torch

    class ElsaAttention(torch.autograd.Function):
        """Forward only."""

        @staticmethod
        def forward(ctx: Any, compute: Callable[[], Tensor], *tensors: Tensor) -> Tensor:
            return compute()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> None:
            raise gradient_refused()

    return ElsaAttention


def gradient_refused() -> RuntimeError:
    """What asking for a gradient raises."""
    return RuntimeError(
        "elsa_attention: expected inference only, got backward(): ELSA attention has no "
        'gradient; train with attn_implementation="sdpa" or run under torch.no_grad()'
    )
