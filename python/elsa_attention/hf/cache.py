"""The cache of a decoder on the CPU engine: one `KvCache` per layer, as transformers takes a cache.

What a cache's update() returns is what transformers gives to the attention function as keys and
values. After the first call it is a stand-in here, with a shape and no data: keys and values are
held once, in the KvCache, and whoever is not the attention "elsa" is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from elsa_attention._tensors import Tensor
from elsa_attention.kv_cache import KvCache
from elsa_attention.plan import Plan
from elsa_attention.stats import CallStats


class ModelCache(Cache):
    """The `past_key_values` that `Run.kv_cache` makes: for generate() and for loops of your own.

    The first tokens are computed as without a cache, later ones against each layer's KvCache, which
    appends keys, hashes and norms as they come. It reorders, crops and resets as transformers'
    DynamicCache, and has the sliding windows of the model's layers.
    """

    def __init__(self, model: Any, plan: Plan | None, capacity: int = 0):
        config = model.config.get_text_config(decoder=True)
        layers = []
        for index, like in enumerate(DynamicCache(config=config).layers):
            if type(like) not in (DynamicLayer, DynamicSlidingWindowLayer):
                raise ValueError(
                    "kv_cache: expected layers of full attention or sliding windows, got a "
                    f"{type(like).__name__} in layer {index}"
                )
            window = getattr(like, "sliding_window", None)
            if window is not None and plan is not None and plan.always_keep_first:
                raise ValueError(
                    "kv_cache: always_keep_first: expected 0 in a model with sliding windows, got "
                    f"{plan.always_keep_first}"
                )
            layers.append(CachedLayer(index, config.num_attention_heads, plan, window, capacity))
        super().__init__(layers=layers)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "ModelCache: expected one use at a time, got a copy: crop(-n) takes back the last n "
            "tokens instead"
        )


class CachedLayer(CacheLayerMixin):
    """Keys and values of one layer."""

    is_croppable = True

    def __init__(
        self, layer: int, heads: int, plan: Plan | None, window: int | None, capacity: int
    ):
        self.layer, self.plan, self.sliding_window = layer, plan, window
        self.kv: KvCache | None = None  # until the first keys tell its shape
        self._heads, self._capacity = heads, capacity
        self._seen = 0  # tokens so far, also those that slid out of the window

    @property
    def is_initialized(self) -> bool:
        """Whether keys came already."""
        return self.kv is not None

    @property
    def is_sliding(self) -> bool:
        """Whether queries see a window of the keys only."""
        return self.sliding_window is not None

    @property
    def keys(self) -> NoReturn:
        """There is no such tensor."""
        _refuse("layer.keys")

    @property
    def values(self) -> NoReturn:
        """There is no such tensor."""
        _refuse("layer.values")

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Makes the cache for keys and values of these shapes."""
        batch, kv_heads, _, d = key_states.shape
        self.kv = KvCache(
            heads=self._heads,
            kv_heads=kv_heads,
            d=d,
            d_v=value_states.shape[-1],
            batch=batch,
            dtype="float32" if key_states.dtype == torch.float64 else key_states.dtype,
            capacity=0 if self.is_sliding else self._capacity,
            plan=self.plan,
            layer=self.layer,
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Appends new keys and values; returns all that the new queries may see.

        Shapes: [batch, kv_heads, n_new, d] and [..., d_v]. Into an empty cache the result is what
        was given, else stand-ins for the attention "elsa".
        Errors: those of `KvCache`.
        """
        if self.kv is None:
            self.lazy_initialization(key_states, value_states)
        assert self.kv is not None
        self.kv.evict_front(len(self.kv) - self._visible())
        empty = len(self.kv) == 0
        # Our choice: of a long prompt two windows stay, so that some of it can be cropped.
        keep = slice(-2 * self.sliding_window if empty and self.sliding_window else 0, None)
        self.kv.append(key_states[:, :, keep], value_states[:, :, keep])
        self._seen += key_states.shape[2]
        if empty:
            return key_states, value_states
        keys = CachedRows(self, key_states)
        same = key_states.shape[-1] == value_states.shape[-1]
        return keys, keys if same else CachedRows(self, value_states)

    def _visible(self) -> int:
        """Cached keys that the next query sees beside its own."""
        held = 0 if self.kv is None else len(self.kv)
        return held if self.sliding_window is None else min(held, self.sliding_window - 1)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that update() will return, and tokens before them."""
        return self._visible() + query_length, self._seen - self._visible()

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self._seen

    def get_max_length(self) -> int:
        """Keys that are held at most; -1 if there is no end."""
        return -1 if self.sliding_window is None else self.sliding_window

    def crop(self, tokens_to_remove: int) -> None:
        """Takes back the last tokens, given as a negative number; a positive one is what stays.

        Errors: ValueError where a window would have to slide back over keys that are gone.
        """
        count = -tokens_to_remove
        if tokens_to_remove > 0:
            count = max(self._seen - tokens_to_remove, 0)
        if self.kv is None or count == 0:
            return
        gone = self._seen - len(self.kv)
        most = self._seen if gone == 0 else len(self.kv) - self._visible()
        if count > most:
            raise ValueError(f"crop: expected at most {most} tokens to take back, got {count}")
        self.kv.truncate(len(self.kv) - count)
        self._seen -= count

    def reset(self) -> None:
        """Forgets everything."""
        self.kv, self._seen = None, 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Sequence i becomes a copy of what sequence beam_idx[i] was."""
        if self.kv is not None:
            self.kv.reorder(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeats each sequence that many times."""
        if self.kv is not None:
            self.kv.reorder(torch.arange(self.kv.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the sequences of these indices, or where this is true."""
        if self.kv is not None:
            self.kv.reorder(torch.arange(self.kv.batch)[indices])

    def __repr__(self) -> str:
        return f"CachedLayer({self.kv})"

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float | None,
        plan: Plan | None,
        layer: int,
        options: tuple[int, str, str],
        count: bool,
    ) -> tuple[Tensor, CallStats]:
        """Attention over the cached keys, [batch, n_q, heads, d_v], and counts, as `Call.by_cpu`.

        keys: what update() returned. options: threads, precision (here always float32), select.
        Errors: ValueError for a plan, layer or keys that are not the cache's; those of
        `KvCache.attend`.
        """
        if plan is not self.plan:
            raise ValueError(
                "elsa: expected past_key_values of the plan that is applied, got those of another: "
                "make them with kv_cache() of this run"
            )
        if plan is not None and layer != self.layer:
            raise ValueError(
                f"elsa: expected keys of layer {layer} itself, got those of layer {self.layer}"
            )
        held = 0 if self.kv is None else len(self.kv)
        if self.kv is None or held != keys.shape[2]:
            raise ValueError(f"elsa: expected the {held} keys now cached, got {keys.shape[2]}")
        threads, _, select = options
        result = self.kv.attend(
            query, mask, causal, scale, select=select, threads=threads or None, return_stats=count
        )
        out, stats = result if count else (result, CallStats())
        return out.transpose(1, 2), stats


class CachedRows(torch.Tensor):
    """Stands for the cached keys or values [batch, kv_heads, n, d] of a layer: a shape, no data."""

    cached_layer: CachedLayer

    @staticmethod
    def __new__(cls, layer: CachedLayer, like: Tensor) -> CachedRows:
        shape = (*like.shape[:2], len(layer.kv), like.shape[-1])  # type: ignore[arg-type]
        rows = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=like.dtype, device=like.device)
        rows.cached_layer = layer
        return rows

    __torch_function__ = torch._C._disabled_torch_function_impl
    __dlpack_c_exchange_api__ = None  # or the core would be told that the data is at address 0

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> NoReturn:
        _refuse(str(func))

    def __dlpack__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("__dlpack__")

    def __repr__(self, **kwargs: Any) -> str:
        return f"CachedRows({list(self.shape)})"


def _refuse(what: str) -> NoReturn:
    raise RuntimeError(
        f'ModelCache: expected only attn_implementation="elsa" to read cached keys and values, got '
        f"{what}: use transformers' DynamicCache there"
    )
