"""Where and with what a measurement was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = ("elsa-attention", "torch", "onnxruntime", "openvino", "numpy", "transformers")
# Variables that change what libraries do; reported if set.
_VARIABLES = (
    "OPENBLAS_",
    "NVPL_",
    "OMP_",
    "MKL_",
    "GOMP_",
    "KMP_",
    "ELSA_",
    "ORT_",
    "ONEDNN_",
    "DNNL_",
)


def describe(target: str | None) -> dict[str, Any]:
    """Processor, target of the engine `cpu`, versions, load."""
    return {
        "cpu": _cpu(),
        "cpu_flags": [
            flag for flag in _SHOWN_FLAGS if flag in _cpu_info().get("flags", "").split()
        ],
        "cores": os.cpu_count(),
        "target": target,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES if _version(name)},
        "variables": {n: v for n, v in sorted(os.environ.items()) if n.startswith(_VARIABLES)},
        "load_average": os.getloadavg()[0],
    }


_SHOWN_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vpopcntdq",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "asimd",
    "asimdhp",
    "bf16",
)


def _cpu() -> str:
    info = _cpu_info()
    name = info.get("model name") or platform.processor() or "unknown"
    family, model = info.get("cpu family"), info.get("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def _cpu_info() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip().replace("Features", "flags"): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def target() -> str:
    """The instruction set that the engine `cpu` uses here."""
    import elsa_attention as ea

    return next(known.name for known in ea.cpu_targets() if known.selected)
