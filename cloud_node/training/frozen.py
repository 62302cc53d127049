"""The networks that a training looks through and does not change: detector, features, teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_node.laegan import PRESETS, load
from cloud_node.laegan.attention import text_mask
from cloud_node.laegan.ctc import RecognizerTwin
from cloud_node.laegan.dbnet import DetectorTwin
from cloud_node.laegan.features import preservation_features
from cloud_node.training.recipes import PRESERVING_TERMS, TEXT_TERMS, Recipe
from common.onnx_models import wheel_model
from common.text_detection import TextDetector, create_detector

Network = TypeVar("Network", bound=nn.Module)

TEXT_PROBABILITY = 0.3  # as in DBNet's own post-processing
GROWN = 5  # pixels; DBNet's map is that of shrunken text


@dataclass(frozen=True)
class Aids:
    """What the terms may ask for, chosen on the command line."""

    vgg: str | None = None  # file or address of VGG-16's weights for the sfp terms; None = the detector's backbone
    detector: str = "dbnet"  # what finds the text for etam and edge: a name of common.text_detection.DETECTORS
    detector_model: Path | None = None  # dbnet: an ONNX file in place of rapidocr's; east: its .pb or .onnx file
    teacher: str | None = None  # PRESET or PRESET:FILE


@dataclass
class Frozen:
    """Those of the frozen networks that a recipe needs; the others are None."""

    twin: DetectorTwin | None = None
    features: Callable[[Tensor], Tensor | list[Tensor]] | None = None
    recognizer: RecognizerTwin | None = None
    boxes: TextDetector | None = None
    teacher: nn.Module | None = None

    def text(self, pre: Tensor) -> Tensor:
        """The text that the detector finds in pre-enhanced frames: (B, 3, H, W) in [0, 1] -> 0 or 1, (B, 1, H, W).

        By its boxes where there is a detector of boxes, as the paper has it, else by the twin's probability.
        """
        with torch.no_grad():
            if self.boxes is not None:
                frames = (pre.detach().float().clamp(0, 1) * 255).round().byte().movedim(1, -1).cpu().numpy()
                masks = [_mask_of(self.boxes, np.ascontiguousarray(frame)) for frame in frames]
                return torch.from_numpy(np.stack(masks))[:, None].to(pre.device)
            assert self.twin is not None
            found = (self.twin(channels_last(pre.detach().clamp(0, 1))) > TEXT_PROBABILITY).float()
            return F.max_pool2d(found, GROWN, stride=1, padding=GROWN // 2)


def gather(recipe: Recipe, aids: Aids, side: int, device: torch.device) -> Frozen:
    """The frozen networks for a recipe, on the device; `side` is that of the crops, in pixels.

    Raises laegan.WeightsError, common.errors.SettingsError or ValueError for what cannot be used.
    """
    terms = {name for stage in recipe.stages for name in stage.terms}
    frozen, text = Frozen(), terms & TEXT_TERMS
    by_boxes = bool(text) and (aids.detector != "dbnet" or ("etam" in terms and recipe.etam == "paper"))
    given_file = aids.detector_model if aids.detector == "dbnet" else None
    twin_file = given_file or wheel_model("det", "the text detector")
    if terms & {"reading", "preserving"} or (text and not by_boxes):
        frozen.twin = placed(DetectorTwin(twin_file), device)
    if "words" in terms:
        frozen.recognizer = placed(RecognizerTwin(wheel_model("rec", "the term words")), device)
    if by_boxes:
        given = {"model": aids.detector_model} if aids.detector == "east" else {"threads": 1}
        frozen.boxes = create_detector(aids.detector, limit_side=side, **given)
    if terms & PRESERVING_TERMS:
        frozen.features = placed(preservation_features(aids.vgg, twin_file), device)
    if aids.teacher:
        preset, _, file = aids.teacher.partition(":")
        if preset not in PRESETS:
            raise ValueError(f"--teacher {aids.teacher}: there is no preset {preset!r}; choose of {', '.join(PRESETS)}")
        frozen.teacher = load(preset, Path(file) if file else None, device).requires_grad_(False)
    return frozen


def placed(network: Network, device: torch.device) -> Network:
    """The network itself, on the device, its weights in the layout of `channels_last`."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def channels_last(image: Tensor) -> Tensor:
    """The same values in the layout that convolutions on a CPU, and in bfloat16 on a GPU, are fastest in."""
    return image.contiguous(memory_format=torch.channels_last)


def _mask_of(detector: TextDetector, rgb: np.ndarray) -> np.ndarray:
    return text_mask([region.polygon for region in detector.detect(rgb)], *rgb.shape[:2])
