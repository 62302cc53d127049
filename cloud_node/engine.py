"""The network on one device: raw frames in, enhanced frames out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from cloud_node import laegan
from cloud_node.color import to_rgb
from cloud_node.laegan.attention import sobel_sharpness
from cloud_node.laegan.network import PRESETS
from common.errors import DeviceError, WeightsError
from common.pixels import Bytes, ColorRange, PixelFormat, RawImage, content_size


@dataclass(frozen=True, slots=True)
class Enhanced:
    """One enhanced frame.

    `rgb` is (H, W, 3) uint8; sharpness is the mean Sobel magnitude of luma, 0..1, before and after.
    """

    rgb: Bytes
    sharpness_before: float
    sharpness_after: float
    finite: bool  # False when the network gave NaN or infinity: not to be shown


def choose_devices(gpus: Sequence[int] | None, device: str) -> tuple[list[torch.device], str]:
    """The devices to use, and a line that says why if nobody asked for them.

    Raises:
        DeviceError: if a device that was asked for is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus is not None:
        missing = [index for index in gpus if not 0 <= index < count]
        if missing or not gpus:
            have = f"devices 0 to {count - 1} are there" if count else "this machine has no CUDA device"
            instead = "--gpus 0" if count else "--device cpu"
            raise DeviceError(f"--gpus {','.join(map(str, gpus))}: {have}; use {instead}")
        return [torch.device("cuda", index) for index in dict.fromkeys(gpus)], ""
    if device:
        try:
            chosen = torch.device(device)
            torch.empty(1, device=chosen)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(f"--device {device}: {reason}; use --device cpu") from None
        return [chosen], ""
    if count:
        return [torch.device("cuda", 0)], ""
    return [torch.device("cpu")], "no CUDA device found: the network runs on the CPU, much slower than on a GPU"


class Engine:
    """LAE-GAN on one device. Not thread-safe: one thread per engine."""

    def __init__(self, device: torch.device, preset: str, weights: Path | None = None) -> None:
        """Load a preset.

        Raises:
            WeightsError: if the preset is unknown or its weights do not load.
        """
        if preset not in PRESETS:
            raise WeightsError(f"no preset '{preset}': choose one of {', '.join(PRESETS)}")
        self.device = device
        # Half precision pays on tensor cores alone.
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        try:
            self.network = laegan.load(preset, weights, device=device, dtype=self.dtype)
            self.model = laegan.weights_version(preset, weights)
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(str(error)) from None

    def enhance(self, images: Sequence[RawImage]) -> list[Enhanced]:
        """Enhance images of one size.

        Raises:
            DeviceError: if the device is out of memory or fails.
        """
        try:
            return self._enhance(images)
        except torch.OutOfMemoryError:
            size = f"{images[0].width}x{images[0].height}"
            raise DeviceError(
                f"{self.device} has no memory for {len(images)} frames of {size}: lower --batch-pixels"
            ) from None
        except RuntimeError as error:
            raise DeviceError(f"{self.device}: {str(error).splitlines()[0]}") from None

    @torch.inference_mode()
    def _enhance(self, images: Sequence[RawImage]) -> list[Enhanced]:
        low = to_rgb(list(images), self.device)
        height, width = low.shape[-2:]
        # The network needs 16 pixels each way; smaller frames are continued by their border.
        padded = F.pad(low, (0, max(0, 16 - width), 0, max(0, 16 - height)), mode="replicate")
        out = self.network(padded.contiguous(memory_format=torch.channels_last))[..., :height, :width].float()
        finite = torch.isfinite(out).flatten(1).all(1).tolist()
        before, after = sobel_sharpness(low).tolist(), sobel_sharpness(out).tolist()
        rgb = (out * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return [Enhanced(*item) for item in zip(rgb, before, after, finite, strict=True)]

    def warm_up(self, width: int = 600, height: int = 400) -> float:
        """Run once on a dark image, so that no user's frame pays for the first run. Returns seconds."""
        start = time.perf_counter()
        dark = np.zeros(content_size(PixelFormat.I420, width, height), np.uint8)
        dark[: width * height] = 20
        dark[width * height :] = 128
        self.enhance([RawImage(dark, width, height, PixelFormat.I420, ColorRange.LIMITED)])
        return time.perf_counter() - start
