"""ELSA: attention that computes only the keys that matter.

    import elsa_attention as ea

    out = ea.attention(query, key, value)                # exact, on numpy arrays or torch tensors
    plan = ea.calibrate(model, batches, p=1)             # thresholds from real inputs
    with plan.applied(model) as run:                     # a Hugging Face model, approximated
        model(**inputs)
    print(run.total.kept_fraction)

Importing this needs numpy only; torch and transformers are loaded by what uses them.
"""

from elsa_attention._core import Hash, Trace
from elsa_attention.accelerator import Accelerator
from elsa_attention.attention import ENGINES, attention
from elsa_attention.calibrate import calibrate, calibrate_many
from elsa_attention.cpu import CpuTarget, cpu_name, cpu_targets
from elsa_attention.explain import KeyExplanation, QueryExplanation, explain
from elsa_attention.hf import Run, applied, apply, register
from elsa_attention.kv_cache import KvCache, KvCacheStats
from elsa_attention.plan import Plan, make_hash, theta_bias
from elsa_attention.report import Report
from elsa_attention.stats import HeadStats

__version__ = "0.1.0"

__all__ = [
    "ENGINES",
    "Accelerator",
    "CpuTarget",
    "Hash",
    "HeadStats",
    "KeyExplanation",
    "KvCache",
    "KvCacheStats",
    "Plan",
    "QueryExplanation",
    "Report",
    "Run",
    "Trace",
    "applied",
    "apply",
    "attention",
    "calibrate",
    "calibrate_many",
    "cpu_name",
    "cpu_targets",
    "explain",
    "make_hash",
    "register",
    "theta_bias",
]
