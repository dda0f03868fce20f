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
