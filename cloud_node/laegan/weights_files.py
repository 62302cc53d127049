"""Weights of the generator in .safetensors files: written, found, checked, read."""

import struct
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cloud_node.laegan.network import LAEGAN, create
from cloud_node.laegan.presets import config_of

COMMITTED = Path(__file__).parent / "weights"  # a card stands beside each file


class WeightsError(RuntimeError):
    """Weights, of a preset or of a frozen network, cannot be used; the message names them, the file and what to do."""


def load(
    preset: str, path: Path | None = None, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LAEGAN:
    """The trained generator: eval mode, channels_last, on `device` in `dtype`.

    path: a .safetensors file; None takes the weights committed for the preset.
    Raises ValueError for an unknown preset, WeightsError for weights that are missing, broken or another preset's.
    """
    config_of(preset)
    path = _path(preset, path)
    model = create(preset, attention=_metadata(preset, path).get("attention") != "off")
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"weights of preset {preset!r}: {path} does not fit the network: {error}") from error
    model = model.to(device=device, dtype=dtype).eval()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save(model: LAEGAN, preset: str, path: Path, version: str, steps: int) -> None:
    """Write a generator's weights, in half precision, so that `load(preset, path)` reads them back."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {"preset": preset, "version": version, "steps": str(steps)}
    save_file(tensors, path, metadata=metadata if model.cfg.attention else metadata | {"attention": "off"})


def weights_version(preset: str, path: Path | None = None) -> str:
    """The version written in the weights file, like 'fast-1'. Raises as `load` does."""
    config_of(preset)
    return _metadata(preset, _path(preset, path))["version"]


def _path(preset: str, path: Path | None) -> Path:
    if path is None:
        path = COMMITTED / f"{preset}.safetensors"
        if not path.exists():
            raise WeightsError(
                f"preset {preset!r} has no trained weights yet ({path} does not exist): "
                "use preset 'fast', or give a file of your own with --weights"
            )
    if not Path(path).is_file():
        raise WeightsError(f"weights of preset {preset!r}: there is no file {path}")
    return Path(path)


def _metadata(preset: str, path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, struct.error) as error:
        raise WeightsError(
            f"weights of preset {preset!r}: {path} is truncated or no safetensors file: {error}"
        ) from error
    if metadata.get("preset") != preset or "version" not in metadata:
        raise WeightsError(f"{path} holds weights of preset {metadata.get('preset', 'unknown')!r}, not of {preset!r}")
    return metadata
