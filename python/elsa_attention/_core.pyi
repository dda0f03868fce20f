"""The C++ core. Use elsa_attention; this module has no stable interface."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read in place, any strides, [batch, heads, n_q or n_k, d] and [batch, heads, n_q, n_k].
_Floats = NDArray[np.float32]
_Bools = NDArray[np.bool_]
# (dtype as safetensors names it, shape, packed little-endian values)
_RawTensor = tuple[str, tuple[int, ...], bytes]

class Hash:
    @property
    def kind(self) -> str: ...
    @property
    def d(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def factors(self) -> list[tuple[int, list[tuple[int, int, list[float]]]]]:
        """Per batch: the number of bits used, and (rows, cols, values) of each factor."""
    def sign_bits(self, rows: _Floats) -> NDArray[np.bool_]:
        """The hash of every row, [n, bits]. Shapes: rows [n, d or fewer] float32."""

def make_hash(kind: str, d: int, bits: int, seed: int) -> Hash: ...
def measure_theta_bias(hash: Hash, d: int | None, pairs: int, seed: int) -> float: ...

class Plan:
    model: str
    target: float
    centring_min_keys: int
    bias_in_test: bool
    dense_below: int
    always_keep_first: int
    always_keep_recent: int
    hash: Hash
    theta_bias_rad: list[list[float]]
    thresholds: list[list[float]]
    rule: str
    remainder: str
    centring: str
    def __init__(self) -> None: ...
    def __eq__(self, other: object) -> bool: ...
    def copy(self) -> Plan: ...
    def validate(self) -> None: ...
    @staticmethod
    def from_json(text: str, name: str) -> Plan: ...
    def to_json(self) -> str: ...
    @staticmethod
    def load(path: str) -> Plan: ...
    def save(self, path: str) -> None: ...
    @property
    def calibration(self) -> list[list[dict[str, float]]]: ...
    @property
    def profile(self) -> str: ...
    def append_layer(self, layer: Plan) -> None:
        """Takes over thresholds and calibration of a plan with one layer."""

def attention(
    query: _Floats,
    key: _Floats,
    value: _Floats,
    mask: _Bools | None,
    bias: _Floats | None,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scale: float,
    causal: bool,
    plan: Plan | None,
    layer: int,
    out: _Floats,
    threads: int = 0,
    measure_mass: bool = False,
    random_keys_seed: int | None = None,
) -> list[tuple[int, int, int, int, int, int, float]]:
    """Writes into `out`; returns per head the fields of HeadStats."""

def cpu_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any | None,
    bias: Any | None,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scale: float | None,
    causal: bool,
    grouped: bool,
    plan: Plan | None,
    layer: int,
    out: Any,
    log_sum_exp: Any | None,
    threads: int,
    precision: str,
    select: str,
    count: bool,
) -> tuple[str, str, list[tuple[tuple, dict[str, int]]]] | None:
    """Writes into `out`. Tensors: numpy or torch, of rank 2 to 4, all of one; masks broadcast.

    Returns, if `count`, target, precision and per head (fields of HeadStats, paths). Returns
    NotImplemented, with nothing done, if a tensor cannot be read in place or shapes do not fit.
    """

def cpu_targets() -> list[tuple[str, bool, str]]:
    """(name, runs here, what the compiler was told) of every target."""

def cpu_selected_target() -> str: ...
def cpu_processor() -> str: ...
def explain(
    query: _Floats,
    key: _Floats,
    value: _Floats,
    mask: _Bools | None,
    bias: _Floats | None,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scale: float,
    causal: bool,
    plan: Plan,
    layer: int,
    batch: int,
    head: int,
    query_index: int,
    labels: Sequence[str],
) -> dict[str, Any]:
    """The fields of QueryExplanation."""

class KvCache:
    def __init__(
        self,
        batch: int,
        kv_heads: int,
        heads: int,
        d: int,
        d_v: int,
        dtype: str,
        capacity: int,
        plan: Plan | None,
        layer: int,
    ) -> None: ...
    def append(self, key: Any, value: Any) -> None:
        """Returns NotImplemented, with nothing done, if a tensor cannot be read in place."""
    def attend(
        self,
        query: Any,
        mask: Any | None,
        bias: Any | None,
        scale: float | None,
        causal: bool,
        out: Any,
        log_sum_exp: Any | None,
        threads: int,
        select: str,
        group_union: bool,
        count: bool,
    ) -> tuple[str, str, list[tuple[tuple, dict[str, int]]]] | None:
        """As cpu_attention."""
    def evict_front(self, count: int) -> None: ...
    def truncate(self, length: int) -> None: ...
    def reorder(self, rows: Sequence[int]) -> None: ...
    @property
    def batch(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def stats(self) -> dict[str, int]: ...

class Calibrator:
    def __init__(self, plan: Plan, layers: int, heads: int) -> None: ...
    def observe(
        self,
        layer: int,
        query: _Floats,
        key: _Floats,
        value: _Floats,
        mask: _Bools | None,
        bias: _Floats | None,
        query_lengths: Sequence[int],
        key_lengths: Sequence[int],
        scale: float,
        causal: bool,
        threads: int = 0,
    ) -> None: ...
    def finish(self) -> Plan: ...

class ThetaBiasMeter:
    def __init__(self, plan: Plan, layers: int, heads: int) -> None: ...
    def observe(
        self,
        layer: int,
        query: _Floats,
        key: _Floats,
        value: _Floats,
        mask: _Bools | None,
        bias: _Floats | None,
        query_lengths: Sequence[int],
        key_lengths: Sequence[int],
        scale: float,
        causal: bool,
        threads: int = 0,
    ) -> None: ...
    def finish(self) -> list[list[float]]: ...

class Config:
    """The accelerator's parameters; what each means: docs/reference/parameters.md."""

    def __init__(self) -> None: ...
    def __eq__(self, other: object) -> bool: ...
    @staticmethod
    def load(path: str) -> Config: ...
    def replace(self, formats: str, values: Mapping[str, str]) -> Config:
        """A valid copy with another format set, unless it is "", and other values by name."""
    def to_dict(self) -> dict[str, dict[str, int | str]]:
        """By section and name."""
    @property
    def digest(self) -> str: ...
    @property
    def formats(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def d(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def hash(self) -> str: ...
    @property
    def banks(self) -> int: ...
    @property
    def selectors_per_bank(self) -> int: ...
    @property
    def hash_multipliers(self) -> int: ...
    @property
    def division_multipliers(self) -> int: ...
    @property
    def queue_depth(self) -> int: ...
    @property
    def query_buffers(self) -> int: ...
    @property
    def remainder(self) -> str: ...
    @property
    def clock_hz(self) -> int: ...
    @property
    def accelerators(self) -> int: ...
    @property
    def transfer(self) -> str: ...
    @property
    def bytes_per_cycle(self) -> int: ...
    @property
    def command_queue_depth(self) -> int: ...
    @property
    def scaling(self) -> str: ...
    @property
    def qkv_integer_bits(self) -> int: ...
    @property
    def qkv_fraction_bits(self) -> int: ...
    @property
    def qkv_rounding(self) -> str: ...
    @property
    def hash_fraction_bits(self) -> int: ...
    @property
    def hash_stage_fraction_bits(self) -> int: ...
    @property
    def norm_bits(self) -> int: ...
    @property
    def norm_fraction_bits(self) -> int: ...
    @property
    def sqrt_table_entries(self) -> int: ...
    @property
    def sqrt_fraction_bits(self) -> int: ...
    @property
    def cosine_fraction_bits(self) -> int: ...
    @property
    def threshold_fraction_bits(self) -> int: ...
    @property
    def score_constant_bits(self) -> int: ...
    @property
    def exp_table_entries(self) -> int: ...
    @property
    def float_exponent_bits(self) -> int: ...
    @property
    def float_fraction_bits(self) -> int: ...
    @property
    def accumulator(self) -> str: ...
    @property
    def accumulator_fraction_bits(self) -> int: ...
    @property
    def sum_fraction_bits(self) -> int: ...
    @property
    def accumulator_rounding(self) -> str: ...
    @property
    def reciprocal_table_entries(self) -> int: ...
    @property
    def reciprocal_fraction_bits(self) -> int: ...
    @property
    def output_rounding(self) -> str: ...

class Simulation:
    """What simulated calls counted; sums up by +."""

    def __init__(self) -> None: ...
    def __add__(self, other: Simulation) -> Simulation: ...
    def to_dict(self) -> dict[str, Any]: ...
    def advice(self, config: Config) -> dict[str, Any]: ...
    def energy(self, config: Config, technology: str) -> dict[str, Any]: ...

# The rows of HeadStats, and name -> (values, beyond the range, largest use).
_HeadRows = list[tuple[int, int, int, int, int, int, float]]
_FormatRows = dict[str, tuple[int, int, float | None]]

def fixed_attention(
    query: _Floats,
    key: _Floats,
    value: _Floats,
    mask: _Bools | None,
    bias: _Floats | None,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scale: float,
    causal: bool,
    config: Config,
    plan: Plan | None,
    layer: int,
    out: _Floats | None,
    threads: int = 0,
) -> tuple[_HeadRows, _FormatRows]:
    """Writes the accelerator's values into `out`."""

def sim_attention(
    query: _Floats,
    key: _Floats,
    value: _Floats,
    mask: _Bools | None,
    bias: _Floats | None,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scale: float,
    causal: bool,
    config: Config,
    plan: Plan | None,
    layer: int,
    out: _Floats | None,
    threads: int = 0,
) -> tuple[_HeadRows, _FormatRows, Simulation]:
    """Simulates, and writes the accelerator's values into `out` if there is one."""

def write_timeline(
    query: _Floats,
    key: _Floats,
    value: _Floats,
    mask: _Bools | None,
    bias: _Floats | None,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scale: float,
    causal: bool,
    config: Config,
    plan: Plan | None,
    layer: int,
    batch: int,
    head: int,
    window: tuple[int, int] | None,
    format: str,
    path: str,
) -> None: ...
def area_mm2(config: Config, technology: str) -> list[dict[str, Any]]: ...
def peak_power_mw(config: Config, technology: str) -> list[dict[str, Any]]: ...
def read_safetensors(path: str) -> tuple[dict[str, str], dict[str, _RawTensor]]: ...
def write_safetensors(
    path: str, tensors: Mapping[str, _RawTensor], metadata: Mapping[str, str] = ...
) -> None: ...
def read_npy(path: str) -> _RawTensor: ...
def write_npy(path: str, dtype: str, shape: Sequence[int], data: bytes) -> None: ...

class Trace:
    """Q, K and V that a model computed, as `elsa capture` wrote them; read in place."""

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Trace: ...
    @property
    def path(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def scale(self) -> float: ...
    @property
    def causal(self) -> bool: ...
    @property
    def layers(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def n_q(self) -> int: ...
    @property
    def n_k(self) -> int: ...
    @property
    def lengths(self) -> list[int]:
        """Real keys of each sequence."""
    @property
    def has_tokens(self) -> bool: ...
    def tokens(self, batch: int) -> list[str]: ...
    def layer(self, layer: int) -> tuple[_Floats, _Floats, _Floats, _Floats | None]:
        """q, k, v and bias, float32 of rank 4."""
    def check_finite(self) -> None:
        """Raises ValueError naming tensor and position of a NaN or infinity."""
