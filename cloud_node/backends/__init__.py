"""Ways to run a network on a device: what each is, and which is the fastest here (docs/engine.md)."""

import copy
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from cloud_node import laegan
from cloud_node.backends.converted import Converted
from cloud_node.backends.takeover import Takeover
from cloud_node.color import Form, from_bytes, sharpness, to_bytes
from cloud_node.laegan import LAEGAN, GeneratorConfig
from cloud_node.laegan.presets import PRESETS
from common.errors import SettingsError, WeightsError

log = logging.getLogger(__name__)

NONE: Final = "none"  # the preset that does nothing, to measure the serving alone
SMALLEST = 16  # pixels each way that a network needs

# Bytes of images of one form, (B, N) uint8 -> lit RGB (B, H, W, 3) uint8, and for each image its measures (B, 3)
# float32: a sum that is finite if the image is, and the sharpness before and after.
Step = Callable[[Tensor, Form], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Model:
    """A preset, ready to run."""

    version: str
    network: nn.Module  # the plain way, (B, 3, H, W) -> the same, in [0, 1]
    step: Step  # the fastest way
    ways: tuple[Takeover, ...] = ()  # by which `step` becomes faster while it serves


class Nothing(nn.Module):
    """The identity, in a network's place."""

    cfg = GeneratorConfig()

    def forward(self, low: Tensor) -> Tensor:
        return low


def light(network: Callable[[Tensor], Tensor], raw: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """The whole work on a batch: a `Step`, given a network."""
    low = at_least(from_bytes(raw, form), SMALLEST)
    low, out = (rgb[..., : form.height, : form.width].float() for rgb in (low, network(low)))
    # A sum is finite if all of its terms, which are 0..1, are.
    return to_bytes(out), torch.stack([out.sum(dim=(1, 2, 3)), sharpness(low), sharpness(out)], dim=1)


def at_least(low: Tensor, side: int) -> Tensor:
    """Smaller frames are continued by their border."""
    height, width = low.shape[-2:]
    if min(height, width) >= side:
        return low
    grow = (0, max(0, side - width), 0, max(0, side - height))
    return nn.functional.pad(low, grow, mode="replicate")


def load(preset: str, weights: Path | None, device: torch.device, backend: str = "auto", threads: int = 1) -> Model:
    """Load a preset and make it ready to run by `backend`, one of BACKENDS or 'auto'.

    Raises:
        WeightsError: if the preset is unknown or its weights do not load.
        SettingsError: for a backend that is unknown or not installed.
    """
    backend = choose(backend, device)
    if preset == NONE:
        nothing = Nothing()
        return _model("none-0", nothing, nothing, device, threads)
    if preset not in PRESETS:
        raise WeightsError(f"no preset '{preset}': choose one of {', '.join([*PRESETS, NONE])}")
    try:
        network = laegan.load(preset, weights, device=device)
        version = laegan.weights_version(preset, weights)
        return BACKENDS[backend](version, network, device, threads)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(str(error)) from None


def choose(backend: str, device: torch.device) -> str:
    """The backend to use where `backend` is asked for. Raises SettingsError."""
    if backend == "auto":
        if device.type == "cuda":
            return "bf16"  # 'compiled' is to be had, and not the default before it was run on a GPU
        if device.type != "cpu":
            return "fp32"
        if importlib.util.find_spec("openvino") is not None:
            return "openvino"
        plain = "bf16" if has_bf16(device) else "fp32"
        log.warning("openvino is not installed: %s runs on torch instead, slower: pip install openvino", plain)
        return plain
    if backend not in BACKENDS:
        raise SettingsError(f"--backend {backend}: choose one of auto, {', '.join(BACKENDS)}")
    if backend == "openvino" and (device.type != "cpu" or importlib.util.find_spec("openvino") is None):
        raise SettingsError(f"--backend openvino: it runs on a CPU, where openvino is installed, and not on {device}")
    return backend


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device.type == "cuda"


def _fp32(version: str, network: LAEGAN, device: torch.device, threads: int) -> Model:
    return _model(version, network, network, device, threads)


def _model(version: str, network: nn.Module, fast: nn.Module, device: torch.device, threads: int) -> Model:
    plain = partial(light, fast)
    if device.type != "cpu":
        return Model(version, network, plain)
    between = None if isinstance(fast, Nothing) else fast
    step = Converted(between, version, plain, partial(at_least, side=SMALLEST), threads)
    return Model(version, network, step, (step.ways,))


def _bf16(version: str, network: LAEGAN, device: torch.device, threads: int) -> Model:
    return _fp32(version, network.to(torch.bfloat16), device, threads)


def _compiled(version: str, network: LAEGAN, device: torch.device, threads: int) -> Model:
    from cloud_node.backends.compiled import Compiled

    network = network.to(torch.bfloat16) if has_bf16(device) else network
    step = Compiled(network, light, version, device)
    return Model(version, copy.deepcopy(network), step, (step.ways,))  # tiles set a state that a builder must not see


def _openvino(version: str, network: LAEGAN, device: torch.device, threads: int) -> Model:
    from cloud_node.backends.openvino import Body, on_openvino

    fast = on_openvino(network, version, threads)
    network = network.to(torch.bfloat16) if has_bf16(device) else network
    model = _model(version, network, fast, device, threads)
    return replace(model, ways=(*model.ways, fast.body.ways)) if isinstance(fast.body, Body) else model


BACKENDS: Final[dict[str, Callable[[str, LAEGAN, torch.device, int], Model]]] = {
    "fp32": _fp32,
    "bf16": _bf16,
    "compiled": _compiled,
    "openvino": _openvino,
}
