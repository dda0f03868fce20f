"""Attention on this computer: torch's scaled_dot_product_attention, fp32, on the traces' own heads.

Sequences are not padded: one call per layer and sequence, as an inference server without batching
would make. The workloads take turns, so that other work on the computer meets all of them; the
fastest round is the one it disturbed least.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

ROUNDS = 60
THREADS = 2


def measure(traces: dict[str, Path]) -> dict[str, Any]:
    """Median, fastest and slowest seconds per head of each trace."""
    import torch

    torch.set_num_threads(THREADS)
    inputs = {name: _heads(path) for name, path in traces.items()}
    seconds: dict[str, list[float]] = {name: [] for name in traces}
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for name, (calls, heads, scale) in inputs.items():
                start = time.perf_counter()
                for q, k, v in calls:
                    torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
                seconds[name].append((time.perf_counter() - start) / heads)
    return {
        "torch": torch.__version__,
        "threads": THREADS,
        "rounds": ROUNDS,
        "seconds_per_head": {
            name: {"median": statistics.median(t[1:]), "least": min(t[1:]), "most": max(t[1:])}
            for name, t in seconds.items()  # the first round warms up
        },
    }


def _heads(path: Path) -> tuple[list[Any], int, float]:
    """Calls of [1, heads, n, d] in fp32, how many heads they have together, and the scale."""
    from safetensors import safe_open

    calls, heads = [], 0
    with safe_open(path, "pt") as trace:
        layers = sum(name.endswith(".q") for name in trace.keys())
        lengths = trace.get_tensor("lengths").tolist()
        scale = float(trace.metadata()["elsa.scale"])
        for layer in range(layers):
            tensors = [trace.get_tensor(f"layer.{layer}.{name}").float() for name in "qkv"]
            for row, length in enumerate(lengths):
                calls.append([t[row : row + 1, :, :length].contiguous() for t in tensors])
                heads += tensors[0].shape[1]
    return calls, heads, scale
