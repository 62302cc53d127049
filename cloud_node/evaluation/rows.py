"""What is compared: each row of the tables turns a dark picture into a lit one.

Baselines are functions (`baselines.py`); networks are ours, the two published Zero-DCEs, and any ONNX file.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cloud_node.evaluation.baselines import BASELINES, Method
from cloud_node.evaluation.zerodce import zero_dce, zero_dce_pp
from cloud_node.laegan import PRESETS, WeightsError, load
from common import errors
from common.errors import SettingsError
from common.pixels import Bytes

BRIGHT = "bright"  # the row of the bright twin: the bound, not a method
RAW = "raw"
SMALLEST = 16  # pixels each way that our networks need
MULTIPLES = (1, 8, 16, 32, 64)  # padding tried for an ONNX network, in pixels

Forward = Callable[[Tensor], Tensor]  # (1, 3, H, W) float in [0, 1] -> the same
Say = Callable[[str], None]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Row:
    """One way to light up a picture. `ours` says whose it is: ours are compared with those that are not."""

    name: str
    apply: Method  # (H, W, 3) uint8 -> the same
    ours: bool = False
    network: nn.Module | None = None  # for parameters and operations
    forward: Forward | None = None  # for time; takes a tensor on the network's device
    ablation: bool = False  # belongs to Table 2 only


@dataclass(frozen=True)
class Machine:
    """Where networks run, and in which floating-point type."""

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32


def baselines(names: Iterable[str] = BASELINES) -> list[Row]:
    """Rows of the functions in BASELINES. SettingsError for an unknown name."""
    names = list(names)
    if unknown := [name for name in names if name not in BASELINES]:
        raise SettingsError(f"there is no baseline {unknown[0]!r}; there are: {', '.join(BASELINES)}")
    return [Row(name, BASELINES[name]) for name in names]


def published(zerodce: Path | None, zerodcepp: Path | None, machine: Machine, say: Say) -> list[Row]:
    """Rows of Zero-DCE and Zero-DCE++; one without its file is left out with a word. Raises errors.WeightsError."""
    rows = []
    for name, make, path, flag in (
        ("Zero-DCE", zero_dce, zerodce, "--zerodce"),
        ("Zero-DCE++", zero_dce_pp, zerodcepp, "--zerodcepp"),
    ):
        if path is None:
            say(f"row {name!r} is left out: name the authors' weights with {flag} FILE")
        else:
            rows.append(network_row(name, placed(make(path), machine), machine))
    return rows


def preset_rows(given: Iterable[str], machine: Machine, say: Say) -> list[Row]:
    """Rows of our presets from NAME=PRESET[:FILE]; without any, of every preset with committed weights.

    Before the first stands its first stage alone (exposure, still noisy). A preset without committed weights is left
    out with a word.

    Raises:
        SettingsError: for a text of another form, or an unknown preset. errors.WeightsError: for a broken file.
    """
    rows: list[Row] = []
    for text in list(given) or [f"{preset}={preset}" for preset in PRESETS]:
        name, preset, path = _parse(text)
        try:
            model = load(preset, path, machine.device, machine.dtype)
        except WeightsError as error:
            if path is not None:
                raise errors.WeightsError(f"--row {text}: {error}") from None
            say(f"row {name!r} is left out: {str(error).splitlines()[0].rstrip(':')}")
            continue
        if not rows:
            stage = _method(model.pre_enhance, machine)
            rows.append(Row(f"{name}, first stage", stage, True))
        rows.append(network_row(name, model, machine, ours=True))
    return rows


def ablation_rows(folder: Path | None, machine: Machine) -> list[Row]:
    """Rows of the weights in a folder, base.safetensors and those with or without a part.

    Each file's own metadata says which preset it is. Raises SettingsError for a folder without such files.
    """
    if folder is None:
        return []
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: (path.stem != "base", path.stem))
    if not paths:
        raise SettingsError(f"--ablation {folder}: it holds no .safetensors files")
    rows = []
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                preset = (file.metadata() or {}).get("preset", "")
            model = load(preset, path, machine.device, machine.dtype)
        except (SafetensorError, OSError, ValueError, WeightsError) as error:
            raise errors.WeightsError(f"--ablation {path}: {error}") from None
        row = network_row(f"ablation: {path.stem}", model, machine, ours=True)
        rows.append(Row(row.name, row.apply, True, ablation=True))
    return rows


def onnx_rows(given: Iterable[str], threads: int) -> list[Row]:
    """Rows of any network from NAME=FILE: one input (1, 3, H, W) float32 RGB in 0..1, an output like it.

    Raises:
        SettingsError: for a text of another form. errors.WeightsError: for a file that ONNX Runtime cannot use.
    """
    rows = []
    for text in given:
        name, found, path = text.partition("=")
        if not found or not name or not path:
            raise SettingsError(f"--onnx {text}: write NAME=FILE, like IAT=iat.onnx")
        network = OnnxNetwork(Path(path), threads)
        rows.append(Row(name, network.apply, forward=network.forward))
    return rows


class OnnxNetwork:
    """An ONNX file as a row. Pictures are padded by reflection to the first of MULTIPLES that the network takes."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            providers = onnxruntime.get_available_providers()
            self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime raises classes of its own for each kind of broken file
            raise errors.WeightsError(f"{path} is no ONNX network that can be loaded: {error}") from None
        self.path, self.multiple = path, MULTIPLES[0]
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (3, None, "channels"):
            shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            raise errors.WeightsError(f"{path}: expected one input (1, 3, H, W), it has {shapes}")
        if any(isinstance(side, int) for side in inputs[0].shape[2:]):
            raise errors.WeightsError(
                f"{path}: its input is fixed to {inputs[0].shape}; export it with dynamic height and width"
            )
        self.input = inputs[0].name

    def __call__(self, low: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(1, 3, H, W) in [0, 1] -> the same. Raises errors.WeightsError where no padding helps."""
        height, width = low.shape[-2:]
        problem: Exception | None = None
        for multiple in MULTIPLES[MULTIPLES.index(self.multiple) :]:
            bottom, right = -height % multiple, -width % multiple
            mode = "reflect" if bottom < height and right < width else "edge"
            padded = np.pad(low, ((0, 0), (0, 0), (0, bottom), (0, right)), mode=mode)  # type: ignore[call-overload]
            try:
                outputs = self.session.run(None, {self.input: padded})
            except Exception as error:  # sizes that do not fit raise what the operator in question raises
                problem = error
                continue
            for output in outputs:
                if getattr(output, "shape", None) == padded.shape:
                    self.multiple = multiple
                    return np.asarray(output[..., :height, :width], np.float32)
            problem = ValueError(f"outputs {[getattr(output, 'shape', None) for output in outputs]}")
        raise errors.WeightsError(f"{self.path}: no output like the input (1, 3, {height}, {width}): {problem}")

    def forward(self, low: Tensor) -> Tensor:
        """The same for tensors, on the CPU."""
        return torch.from_numpy(self(low.float().cpu().numpy()))

    def apply(self, rgb: Bytes) -> Bytes:
        """(H, W, 3) uint8 -> the same."""
        low = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        out = np.nan_to_num(self(low)[0]).transpose(1, 2, 0)
        return np.round(np.clip(out, 0, 1) * 255).astype(np.uint8)


def placed(model: Network, machine: Machine) -> Network:
    """The network on the machine, in its type and in channels_last, as ours are: none has an advantage in time."""
    model = model.to(machine.device, machine.dtype)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def network_row(name: str, model: nn.Module, machine: Machine, ours: bool = False) -> Row:
    """A torch network as a row. Pictures below 16 pixels a side are continued by their border, as in the engine."""
    return Row(name, _method(model, machine), ours, model, model)


def _method(forward: Forward, machine: Machine) -> Method:
    def apply(rgb: Bytes) -> Bytes:
        low = torch.from_numpy(rgb.copy()).to(machine.device).movedim(-1, 0)[None].float() / 255
        height, width = low.shape[-2:]
        if min(height, width) < SMALLEST:
            low = F.pad(low, (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height)), mode="replicate")
        with torch.inference_mode():
            lit = forward(low)[0, :, :height, :width].float().clamp(0, 1)
        return (lit.movedim(0, -1) * 255).round().byte().cpu().numpy()

    return apply


def _parse(text: str) -> tuple[str, str, Path | None]:
    name, found, rest = text.partition("=")
    preset, _, path = rest.partition(":")
    if not found or not name or not preset:
        raise SettingsError(f"--row {text}: write NAME=PRESET or NAME=PRESET:FILE.safetensors")
    if preset not in PRESETS:
        raise SettingsError(f"--row {text}: there is no preset {preset!r}; there are: {', '.join(PRESETS)}")
    return name, preset, Path(path) if path else None
