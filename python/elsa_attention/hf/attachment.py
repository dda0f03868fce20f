"""What is attached to a model while ELSA computes its attention: state per model, none global.

The attention function gets only the attention module that calls it. So every module of the model
points to its attachments here, weakly, the latest on top; two models never meet.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from elsa_attention._tensors import Tensor
from elsa_attention.hf.masks import Visible, VisibleOfPass
from elsa_attention.inputs import Inputs, skip_padding

if TYPE_CHECKING:
    from elsa_attention.hf.backend import Call

_lock = threading.Lock()
_stacks: weakref.WeakKeyDictionary[Any, list[Attachment]] = weakref.WeakKeyDictionary()
# Models may share one configuration, which holds the implementation's name: restore it when the
# last one leaves. id(config) -> [config, implementation before, attachments].
_switched: dict[int, list[Any]] = {}


def current(module: Any) -> Attachment | None:
    """The latest attachment of the model that `module` is part of."""
    stack = _stacks.get(module)
    return stack[-1] if stack else None


class Attachment:
    """Takes every attention call of one model until close()."""

    def __init__(self, model: Any):
        from elsa_attention.hf.backend import NAME, register  # which imports this module

        require_model(model)
        register()
        self._modules = weakref.WeakSet(model.modules())
        self._model = weakref.ref(model)
        self._thread = threading.local()
        self._open = True
        with _lock:
            switch = _switched.setdefault(
                id(model.config), [model.config, model.config._attn_implementation, 0]
            )
            switch[2] += 1
            for module in model.modules():
                _stacks.setdefault(module, []).append(self)
        model.set_attn_implementation(NAME)
        self._hooks = [model.register_forward_pre_hook(self._begin)]
        self._hooks.append(model.register_forward_hook(self._end))
        # A user may call the encoder inside instead of the model: numbering starts there too.
        for module in model.modules():
            if module is not model and hasattr(module, "set_attn_implementation"):
                self._hooks.append(module.register_forward_pre_hook(self._restart))

    def close(self) -> None:
        """Detaches from the model and restores its attention. Calling it again does no harm."""
        if not self._open:
            return
        self._open = False
        for hook in self._hooks:
            hook.remove()
        model = self._model()
        with _lock:
            for module in self._modules:
                _stacks[module].remove(self)
                if not _stacks[module]:
                    del _stacks[module]
            if model is None:
                return
            switch = _switched[id(model.config)]
            switch[2] -= 1
            if switch[2] == 0:
                del _switched[id(model.config)]
        if switch[2] == 0:
            model.set_attn_implementation(switch[1])

    def attend(self, module: Any, call: Call) -> Tensor:
        """Computes one call of the model's attention."""
        self._thread.called = True
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int):
            # ALBERT serves every layer with one module, DistilBERT does not number its modules.
            layer = getattr(self._thread, "layer", 0)
            self._thread.layer = layer + 1
        return self._attend(layer, call)

    def _attend(self, layer: int, call: Call) -> Tensor:
        raise NotImplementedError

    def visible(self, call: Call) -> Visible:
        """What the queries of the call may see, found out once per pass and mask."""
        if not hasattr(self._thread, "visible"):
            self._thread.visible = VisibleOfPass()  # a layer called on its own
        query, mask = call.tensors[0], call.tensors[3]
        return self._thread.visible(mask, query.shape[0])

    def _begin(self, *_: Any) -> None:
        self._restart()
        self._thread.called = False

    def _restart(self, *_: Any) -> None:
        self._thread.layer = 0
        self._thread.visible = VisibleOfPass()

    def _end(self, *_: Any) -> None:
        # Whatever kept the calls away, an approximation that silently does not happen is a lie.
        self._thread.visible = VisibleOfPass()
        if current(self._model()) is self and not self._thread.called:
            raise RuntimeError(
                "elsa: expected the model's attention to call "
                'attn_implementation="elsa", got no call: was it switched or is it custom code?'
            )


class Observation(Attachment):
    """Shows every attention call to a function and computes it exactly."""

    def __init__(self, model: Any, see: Callable[[int, Inputs], None]):
        self._see = see
        super().__init__(model)

    def _attend(self, layer: int, call: Call) -> Tensor:
        inputs = call.inputs()
        skip_padding(inputs)
        self._see(layer, inputs)
        return call.by_torch()


@contextlib.contextmanager
def observed(model: Any, see: Callable[[int, Inputs], None]) -> Iterator[None]:
    """Calls see(layer, inputs) for every attention call inside the block; the result is exact.

    The arrays in `inputs` are views that are valid during the call only.
    """
    observation = Observation(model, see)
    try:
        yield
    finally:
        observation.close()


def require_model(model: Any) -> None:
    """Refuses models whose layers cannot be told apart or whose attention cannot be replaced."""
    name = type(model).__name__
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "set_attn_implementation"):
        raise TypeError(f"model: expected a transformers model, got {name}")
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", 0):
        raise ValueError(
            f"model: expected one self-attention per layer, got {name} with cross-attention; "
            "apply to its encoder alone"
        )
    if not model.is_backend_compatible():
        raise ValueError(
            f"model: expected attention through transformers' attention interface, got {name}, "
            "which ignores attn_implementation"
        )
    if layer_count(model) is None:
        raise ValueError(
            f"model: expected one stack of layers, got {name} without config.num_hidden_layers; "
            "apply to one of its encoders"
        )


def layer_count(model: Any) -> int | None:
    """Attention calls per forward pass."""
    layers = getattr(model.config, "num_hidden_layers", None)
    return None if layers is None else layers * getattr(model.config, "inner_group_num", 1)


def model_name(model: Any) -> str:
    """The last part of where the model came from; "" if it was not loaded."""
    return str(getattr(model, "name_or_path", "") or "").rstrip("/").rpartition("/")[2]
