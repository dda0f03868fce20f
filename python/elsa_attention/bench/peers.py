"""What a user would run instead, one small class per peer, each at its best.

Every peer gets what it likes before the clock starts: compiled models, resident inputs in its own
layout and dtype, its own threads as many as ours, and preallocated outputs where its interface has
them. Only the attention itself is timed.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from elsa_attention.bench import masks
from elsa_attention.bench.cases import Problem


class Refused(Exception):
    """Why a peer does not take part in a case."""


class Contestant(ABC):
    """Ready to compute one problem."""

    name: str
    precision: str  # decides the tolerance: one of cases.PRECISIONS
    ours = False
    share: float | None = None  # of the pairs that the plan aims at
    masks: list[Any] | None = None  # the keys it is confined to, if that is its input

    @abstractmethod
    def run(self) -> None:
        """All calls of the problem: the timed part."""

    @abstractmethod
    def results(self) -> list[Any]:
        """What the last run computed: a torch tensor [1, heads, n_q, d] per call."""


class Peer(ABC):
    """Makes contestants of one library and precision."""

    name: ClassVar[str]
    package: ClassVar[str] = "torch"
    precision: ClassVar[str] = "float32"
    decodes: ClassVar[bool] = True

    @classmethod
    def absent(cls) -> str | None:
        """How to install what is missing; None if nothing is."""
        needed = ("onnx", "onnxruntime") if cls.package == "onnxruntime" else (cls.package,)
        if all(importlib.util.find_spec(name) is not None for name in needed):
            return None
        return f"pip install {' '.join(needed)}"

    @classmethod
    def prepare(cls, problem: Problem) -> Contestant:
        """Errors: Refused, with the reason."""
        if problem.case.n_q == 1 and not cls.decodes:
            raise Refused("not measured with one query")
        return cls.make(problem)

    @classmethod
    @abstractmethod
    def make(cls, problem: Problem) -> Contestant: ...


class TorchSdpa(Peer):
    """torch.nn.functional.scaled_dot_product_attention."""

    name = "torch-sdpa"

    @classmethod
    def make(cls, problem: Problem) -> Contestant:
        return _TorchContestant(cls, problem, _sdpa(problem))


class TorchSdpaBf16(TorchSdpa):
    """The same in bfloat16."""

    name = "torch-sdpa-bf16"
    precision = "16bit"


def _sdpa(problem: Problem) -> Any:
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    causal, scale = problem.case.causal, problem.scale
    gqa = problem.calls[0].q.shape[1] != problem.calls[0].k.shape[1]

    def run(i: int, q: Any, k: Any, v: Any) -> Any:
        return attend(q, k, v, is_causal=causal, scale=scale, enable_gqa=gqa)

    return run


class _TorchContestant(Contestant):
    """Calls a function of torch tensors; results are new tensors, as torch gives them."""

    def __init__(self, peer: type[Peer], problem: Problem, attend: Any):
        self.name, self.precision = peer.name, peer.precision
        self._attend = attend
        self._calls = problem.tensors(peer.precision)
        self._results: list[Any] = [None] * len(self._calls)

    def run(self) -> None:
        for i, call in enumerate(self._calls):
            self._results[i] = self._attend(i, call.q, call.k, call.v)

    def results(self) -> list[Any]:
        return self._results


class Flex(Peer):
    """torch's FlexAttention under torch.compile, causal by a block mask."""

    name = "flex"
    decodes = False

    @classmethod
    def make(cls, problem: Problem) -> Contestant:
        block = _causal_blocks(problem) if problem.case.causal else None
        blocks = [block] * len(problem.calls)
        return _TorchContestant(cls, problem, _flex(problem, blocks))


class FlexBf16(Flex):
    """The same in bfloat16."""

    name = "flex-bf16"
    precision = "16bit"


class FlexElsaMask(Peer):
    """FlexAttention confined to the keys that an ELSA plan keeps, as a block mask.

    The mask is made before the clock starts: this flatters the peer, which has no way to make it.
    """

    name = "flex-elsa-mask"
    decodes = False

    @classmethod
    def make(cls, problem: Problem) -> Contestant:
        if not problem.plans:
            raise Refused("without a plan there is no mask")
        if max(problem.lengths) > 4096:
            raise Refused("a mask of all pairs is too large beyond 4096 keys")
        share = min(problem.plans, key=lambda s: abs(s - 0.1))
        kept = [
            masks.kept_keys(problem, i, problem.plans[share]) for i in range(len(problem.calls))
        ]
        blocks = [_blocks(mask) for mask in kept]
        contestant = _TorchContestant(cls, problem, _flex(problem, blocks))
        contestant.name = f"{cls.name}@{share:g}"
        contestant.share, contestant.masks = share, kept
        return contestant


def _flex(problem: Problem, blocks: Sequence[Any]) -> Any:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)

    def run(i: int, q: Any, k: Any, v: Any) -> Any:
        return compiled(q, k, v, block_mask=blocks[i], scale=problem.scale)

    return run


def _causal_blocks(problem: Problem) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    n = problem.lengths[0]
    return create_block_mask(lambda b, h, q, k: q >= k, None, None, n, n, device="cpu")


def _blocks(kept: Any) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    heads, n_q, n_k = kept.shape
    return create_block_mask(lambda b, h, q, k: kept[h, q, k], 1, heads, n_q, n_k, device="cpu")


class OnnxRuntime(Peer):
    """onnxruntime's MultiHeadAttention; K and V as a cache, the layout it is fastest with."""

    name = "onnxruntime"
    package = "onnxruntime"

    @classmethod
    def make(cls, problem: Problem) -> Contestant:
        call = problem.calls[0]
        if call.q.shape[1] != call.k.shape[1]:
            raise Refused("its MultiHeadAttention has no grouped heads")
        return _OnnxContestant(problem)


class _OnnxContestant(Contestant):
    name, precision = OnnxRuntime.name, OnnxRuntime.precision

    def __init__(self, problem: Problem):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = problem.case.threads
        options.inter_op_num_threads = 1
        sessions: dict[tuple, Any] = {}
        self._runs, self._outputs = [], []
        for call in problem.calls:
            shape = tuple(call.k.shape)
            if shape not in sessions:
                sessions[shape] = onnxruntime.InferenceSession(
                    _onnx_model(problem, call), options, providers=["CPUExecutionProvider"]
                )
            self._bind(sessions[shape], call)

    def _bind(self, session: Any, call: Any) -> None:
        from onnxruntime import OrtValue

        _, heads, n_q, d = call.q.shape
        packed = call.q.transpose(1, 2).reshape(1, n_q, heads * d).contiguous().numpy()
        out = OrtValue.ortvalue_from_numpy(np.empty_like(packed))
        binding = session.io_binding()
        for name, array in (("q", packed), ("k", call.k.numpy()), ("v", call.v.numpy())):
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output("o", out)
        self._runs.append((session, binding))
        self._outputs.append((out, (1, n_q, heads, d)))

    def run(self) -> None:
        for session, binding in self._runs:
            session.run_with_iobinding(binding)

    def results(self) -> list[Any]:
        import torch

        return [
            torch.from_numpy(out.numpy()).reshape(shape).transpose(1, 2)
            for out, shape in self._outputs
        ]


def _onnx_model(problem: Problem, call: Any) -> bytes:
    from onnx import TensorProto, helper

    _, heads, n_q, d = call.q.shape
    attributes: dict[str, Any] = {"num_heads": heads, "unidirectional": int(problem.case.causal)}
    if problem.scale is not None:
        attributes["scale"] = problem.scale
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", **attributes
    )

    def info(name: str, shape: Sequence[int]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    row = (1, n_q, heads * d)
    inputs = [info("q", row), info("k", call.k.shape), info("v", call.v.shape)]
    graph = helper.make_graph([node], "attention", inputs, [info("o", row)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 10
    return model.SerializeToString()


class OpenVino(Peer):
    """OpenVINO's ScaledDotProductAttention on its CPU plugin."""

    name = "openvino"
    package = "openvino"

    @classmethod
    def make(cls, problem: Problem) -> Contestant:
        call = problem.calls[0]
        if call.q.shape[1] != call.k.shape[1]:
            raise Refused("its ScaledDotProductAttention has no grouped heads")
        if problem.scale is not None:
            raise Refused("measured with the usual scale only")
        return _OpenVinoContestant(cls, problem)


class OpenVinoBf16(OpenVino):
    """The same in bfloat16, where the processor multiplies that."""

    name = "openvino-bf16"
    precision = "16bit"

    @classmethod
    def make(cls, problem: Problem) -> Contestant:
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Refused("this processor has no bfloat16 arithmetic that OpenVINO uses")
        return super().make(problem)


class _OpenVinoContestant(Contestant):
    def __init__(self, peer: type[Peer], problem: Problem):
        import openvino

        self.name, self.precision = peer.name, peer.precision
        self._is_bf16 = peer.precision == "16bit"
        core = openvino.Core()
        compiled: dict[tuple, Any] = {}
        self._requests, self._outputs, self._kept = [], [], []
        for call in problem.tensors(peer.precision):
            shape = tuple(call.k.shape)
            if shape not in compiled:
                compiled[shape] = self._compile(core, problem, call)
            self._bind(compiled[shape].create_infer_request(), call)

    def _compile(self, core: Any, problem: Problem, call: Any) -> Any:
        import openvino
        import openvino.opset13 as ops

        dtype = openvino.Type.bf16 if self._is_bf16 else openvino.Type.f32
        parameters = [ops.parameter(list(x.shape), dtype) for x in (call.q, call.k, call.v)]
        node = ops.scaled_dot_product_attention(*parameters, causal=problem.case.causal)
        settings = {
            "INFERENCE_NUM_THREADS": problem.case.threads,
            "INFERENCE_PRECISION_HINT": "bf16" if self._is_bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        return core.compile_model(openvino.Model([node], parameters), "CPU", settings)

    def _bind(self, request: Any, call: Any) -> None:
        import openvino
        import torch

        def shared(x: Any) -> Any:
            if not self._is_bf16:
                return openvino.Tensor(x.numpy(), shared_memory=True)
            bits = x.view(torch.int16).numpy()
            return openvino.Tensor(bits, list(x.shape), openvino.Type.bf16)

        out = torch.empty(call.q.shape, dtype=call.q.dtype)
        for i, x in enumerate((call.q, call.k, call.v)):
            request.set_input_tensor(i, shared(x))
        request.set_output_tensor(0, shared(out))
        self._requests.append(request)
        self._outputs.append(out)
        self._kept.append(call)  # the request only borrows the memory

    def run(self) -> None:
        for request in self._requests:
            request.infer(share_inputs=True, share_outputs=True)

    def results(self) -> list[Any]:
        return self._outputs


PEERS: tuple[type[Peer], ...] = (
    TorchSdpa,
    TorchSdpaBf16,
    Flex,
    FlexBf16,
    FlexElsaMask,
    OnnxRuntime,
    OpenVino,
    OpenVinoBf16,
)
