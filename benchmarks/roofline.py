"""The least time that a device can take for a network: for its operations, or for its bytes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Load:
    """Of one frame: operations (a multiplication and an addition are two), and bytes of the convolutions' inputs and
    outputs, each counted once."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Speed:
    """Of a device, as measured: operations a second in matrix products, bytes a second in copies, read and written."""

    operations: float
    bytes: float

    def seconds(self, load: Load) -> float:
        return max(load.operations / self.operations, load.bytes / self.bytes)


def load_of(network: nn.Module, width: int, height: int, sample_bytes: int) -> Load:
    """What a frame asks for, counted on a small frame's convolutions and scaled by pixels.

    sample_bytes: of a value inside the network, 2 for bfloat16.
    """
    side = 256
    seen = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seen
        seen += inputs[0].numel() + output.numel()

    handles = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.Conv2d)]
    parameter = next(network.parameters())
    low = torch.rand(1, 3, side, side, device=parameter.device)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(low)
    finally:
        for handle in handles:
            handle.remove()
    scale = width * height / side**2
    return Load(counter.get_total_flops() * scale, seen * sample_bytes * scale)


def speed_of(device: torch.device, dtype: torch.dtype) -> Speed:
    """Measured on the device: the best of several matrix products and copies."""
    side, count = (8192, 2**29) if device.type == "cuda" else (1024, 2**26)
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = best(lambda: a @ b, device)
    copy_s = best(lambda: target.copy_(source), device)
    return Speed(2 * side**3 / product_s, 2 * count / copy_s)


def best(run: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Seconds of the fastest of several runs, after two that are not counted."""
    taken = []
    for _ in range(repeats + 2):
        _wait(device)
        start_s = time.perf_counter()
        run()
        _wait(device)
        taken.append(time.perf_counter() - start_s)
    return min(taken[2:])


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
