"""OpenVINO runs a network's body, or a function: the fastest way on a CPU, never waiting for the GIL in the middle."""

import copy
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cloud_node.backends.takeover import Takeover
from cloud_node.backends.tracing import tracing
from cloud_node.laegan import LAEGAN

if "openvino" not in sys.modules:
    # Importing openvino reports the import to its makers; a node tells nobody anything. Without the package it cannot.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino.tools.ovc import convert_impl  # noqa: E402

convert_impl.init_logger = lambda *_: None  # it would keep all but errors of this process out of its log

FIXED_SHAPES = 4  # a graph of fixed size is some percent faster, and holds its own memory


def on_openvino(network: LAEGAN, version: str, threads: int) -> LAEGAN:
    """The same network with its body on OpenVINO: in bfloat16 where the CPU has it. The curve stays as it is.

    network: in float32, in eval mode; it is left as it is.
    """
    if network.body is None:
        return network
    fast = copy.copy(network)
    fast._modules = {**network._modules, "body": Body(network.body, network.cfg.multiple, version, threads)}
    return fast


class Body(nn.Module):
    """pre, low: (B, 3, H, W) float32 -> the residual, (B, 3, H, W) float32."""

    def __init__(self, body: nn.Module, multiple: int, version: str, threads: int):
        super().__init__()
        capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._config = _config("bf16" if "BF16" in capabilities else "f32", threads)
        side = 8 * multiple
        self._graph = convert(
            body, (torch.zeros(1, 3, side, side + multiple), torch.zeros(1, 3, side, side + multiple))
        )
        self.ways = Takeover(
            f"{version} on OpenVINO", self._session(self._graph), self._session_for, limit=FIXED_SHAPES
        )

    def forward(self, pre: Tensor, low: Tensor) -> Tensor:
        frames = (pre.contiguous().numpy(), low.contiguous().numpy())
        return torch.from_numpy(self.ways(pre.shape, *frames))

    def _session_for(self, pre: Any, low: Any) -> "_Session":
        graph = self._graph.clone()
        graph.reshape({"pre": pre.shape, "low": low.shape})
        return self._session(graph)

    def _session(self, graph: Any) -> "_Session":
        return _Session(_core().compile_model(graph, "CPU", self._config))


class _Session:
    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def __call__(self, pre: Any, low: Any) -> Any:
        """What it gives is overwritten by the next call."""
        outputs = self._request.infer([pre, low], share_inputs=True, share_outputs=True)
        return np.require(outputs[0], requirements="W")


class Graph:
    """A function of tensors of fixed shapes, in float32.

    Args:
        examples: of its arguments.
    """

    def __init__(self, function: Callable[..., Any], examples: Sequence[Tensor], threads: int) -> None:
        class Module(nn.Module):
            def forward(self, *arguments: Tensor) -> Any:
                return function(*arguments)

        with tracing():
            traced = torch.jit.trace(Module(), tuple(examples), check_trace=False)
            shapes = [tuple(example.shape) for example in examples]
            graph = ov.convert_model(traced, example_input=tuple(examples), input=shapes)
        self._request = _core().compile_model(graph, "CPU", _config("f32", threads)).create_infer_request()

    def __call__(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """From arrays, C-contiguous and of the right types and shapes, into others. Nothing is copied."""
        for place, array in enumerate(inputs):
            self._request.set_input_tensor(place, ov.Tensor(array, shared_memory=True))
        for place, array in enumerate(outputs):
            self._request.set_output_tensor(place, ov.Tensor(array, shared_memory=True))
        self._request.infer(share_outputs=True)


def _config(precision: str, threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # which processors are the network's is not decided here
    }


@functools.cache
def _core() -> Any:
    """One for the process, and never let go.

    Each core's CPU plugin gives the thread that loads it a signal stack and takes it away with the core
    (`SigAltStackSetup` in OpenVINO's plugin.cpp). Of two cores the second puts back the first one's, long unmapped,
    and the next signal to that thread ends the process.
    """
    return ov.Core()


def convert(body: nn.Module, example: tuple[Tensor, Tensor]) -> Any:
    """An OpenVINO graph of any batch and size, with inputs `pre` and `low`."""
    with tracing():  # Python is followed once; there is none that depends
        traced = torch.jit.trace(body, example, check_trace=False)
        shape = ov.PartialShape([-1, 3, -1, -1])
        return ov.convert_model(traced, example_input=example, input=[("pre", shape), ("low", shape)])
