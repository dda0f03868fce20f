"""Runs the native command line and writes the traces it reads.

The binary is $ELSA_CLI, or build/release/elsa of this checkout.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("ELSA_CLI", ROOT / "build/release/elsa")).resolve()
if not BINARY.is_file():
    raise RuntimeError(f"{BINARY}: expected the native binary, got none: run `make native`")


def run(*args, cwd=None, env=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(BINARY), *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True
    )


def run_json(*args) -> dict:
    """The object printed by a successful command with --json, which prints nothing else."""
    done = run(*args, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_refused(folder: Path, *args, words) -> None:
    """The command exits with 2, says all `words` in one line on stderr, and leaves no trace."""
    before = listing(folder)
    done = run(*args)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("elsa")
    assert ": error: " in done.stderr
    assert done.stderr.endswith("\n") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert str(word) in done.stderr, done.stderr
    assert listing(folder) == before


def metadata(d: int, *, model="toy", scale=None, causal=False, tokens=None, version="1") -> dict:
    entries = {
        "elsa.trace": version,
        "elsa.model": model,
        "elsa.scale": repr(d**-0.5 if scale is None else scale),
        "elsa.causal": "true" if causal else "false",
        "elsa.source_digest": "made by a test",
    }
    if tokens is not None:
        entries["tokens"] = json.dumps(tokens)
    return entries


def random_tensors(
    *,
    layers=2,
    batch=2,
    heads=3,
    kv_heads=None,
    n_q=24,
    n_k=None,
    d=16,
    bias=False,
    lengths=None,
    seed=0,
    dtype="float32",
) -> dict[str, np.ndarray]:
    """Tensors of a trace. Keys have different lengths, so that key norms matter."""
    random = np.random.default_rng(seed)
    n_k = n_q if n_k is None else n_k
    tensors = {}
    for layer in range(layers):
        q = 2 * random.standard_normal((batch, heads, n_q, d))
        k = random.standard_normal((batch, kv_heads or heads, n_k, d))
        k *= random.uniform(0.5, 2, k.shape[:3])[..., None]
        v = random.standard_normal(k.shape) + 0.5
        for name, value in zip("qkv", (q, k, v), strict=True):
            tensors[f"layer.{layer}.{name}"] = value.astype(dtype)
        if bias:
            tensors[f"layer.{layer}.bias"] = random.standard_normal((1, heads, n_q, n_k)).astype(
                dtype
            )
    if lengths is not None:
        tensors["lengths"] = np.asarray(lengths, dtype=np.int64)
    return tensors


def write_trace(path: Path, tensors: dict[str, np.ndarray], **options) -> Path:
    d = tensors["layer.0.q"].shape[-1]
    save_file(tensors, path, metadata=metadata(d, **options))
    return path


def write_raw(path: Path, header: dict | bytes, data: bytes = b"") -> Path:
    """A safetensors file with any header, which the official writer would refuse to make."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def make_plan(path: Path, *traces: Path, options=("--p", "1")) -> Path:
    done = run("calibrate", *traces, *options, "-o", path)
    assert done.returncode == 0, done.stderr
    return path
