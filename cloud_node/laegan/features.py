"""What a network trained on much more than our frames sees in them, for the self-feature-preserving loss.

References:
    LAE-GAN, J Cloud Comp 12:160 (2023), section "Loss function" (SFP), which names no layer.
    EnlightenGAN, Jiang et al., TIP 2021: VGG-16 at relu5_1, in the published recipe without the fourth pooling.
    VGG-16: Simonyan and Zisserman, ICLR 2015.
"""

import hashlib
import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from cloud_node.laegan.dbnet import DetectorTwin
from cloud_node.laegan.weights_files import WeightsError

# Convolutions by torchvision's numbers, up to conv5_1; a pooling stands between two groups.
GROUPS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24,))
WIDTHS = (64, 128, 256, 512, 512)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureExtractor(Protocol):
    """Frozen features of frames, differentiable in the frames."""

    def __call__(self, rgb: Tensor) -> Tensor | list[Tensor]:
        """RGB (B, 3, H, W) in [0, 1] -> a map (B, C, h, w), or one of each of several layers."""
        ...


class VGG16Features(nn.Module):
    """VGG-16 up to relu5_1, frozen; no parameters, nothing in its state dict.

    Args:
        weights: by torchvision's names ('features.0.weight'...): a mapping, a .pth or .safetensors file, or the
            http(s) or file address of one. What lies behind conv5_1 may be missing.
        pool4: with the fourth pooling the stride is 16, without it, as in EnlightenGAN, 8.
        cache: folder for downloads; None = torch's own.

    Raises:
        WeightsError: no such file, nothing at the address, broken, or not VGG-16's shapes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights: str | Path | Mapping[str, Tensor],
        *,
        pool4: bool = False,
        cache: Path | None = None,
    ):
        super().__init__()
        self.pool4 = pool4
        source = "the mapping given" if isinstance(weights, Mapping) else str(weights)
        tensors = weights if isinstance(weights, Mapping) else load_weights(str(weights), cache)
        channels = 3
        for group, width in zip(GROUPS, WIDTHS, strict=True):
            for number in group:
                for kind, shape in (("weight", (width, channels, 3, 3)), ("bias", (width,))):
                    name = f"features.{number}.{kind}"
                    found = tuple(tensors[name].shape) if name in tensors else "missing"
                    if found != shape:
                        raise WeightsError(f"{source} is not torchvision's VGG-16: {name} is {found}, expected {shape}")
                    self.register_buffer(f"{kind}_{number}", tensors[name].detach().float(), persistent=False)
                channels = width
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1], H and W at least 16 -> relu5_1, (B, 512, H // 8, W // 8), or // 16 with pool4.

        Raises ValueError for another shape.
        """
        if rgb.ndim != 4 or rgb.shape[1] != 3 or min(rgb.shape[-2:]) < 16:
            raise ValueError(f"expected RGB (B, 3, H, W) with H, W >= 16, got {tuple(rgb.shape)}")
        x = (rgb - self.mean) / self.std
        for index, group in enumerate(GROUPS):
            if index > 0 and (index < 4 or self.pool4):
                x = F.max_pool2d(x, 2)
            for number in group:
                weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
        return x


class BackboneFeatures(nn.Module):
    """A text detector's backbone, frozen: what matters to reading, and no download.

    twin: the detector. strides: which of its maps to give, out of 4, 8, 16, 32.
    """

    def __init__(self, twin: DetectorTwin, strides: tuple[int, ...] = (8, 16)):
        super().__init__()
        self.twin, self.strides = twin, strides

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """RGB (B, 3, H, W) in [0, 1] -> a map (B, C_s, H' / s, W' / s) of each stride s.

        H' and W' are H and W rounded up to multiples of 32; the border is repeated.
        """
        bottom, right = (-side % 32 for side in rgb.shape[-2:])
        padded = F.pad(rgb, (0, right, 0, bottom), mode="replicate") if bottom or right else rgb
        return self.twin.features(padded, self.strides)


def preservation_features(vgg: str | None, detector: Path) -> VGG16Features | BackboneFeatures:
    """The extractor of the self-feature-preserving loss, a module on the CPU: VGG-16 where given, else the detector.

    vgg: file or address of torchvision's VGG-16 weights; None = the detector's maps of strides 8 and 16 instead.
    detector: its ONNX file.
    Raises WeightsError where the weights asked for cannot be used.
    """
    if vgg is not None:
        return VGG16Features(vgg)
    return BackboneFeatures(DetectorTwin(detector))


def load_weights(source: str, cache: Path | None = None) -> dict[str, Tensor]:
    """The tensors, on the CPU, of a .pth or .safetensors file or of the http(s) or file address of one.

    A download is kept in `cache`. A name like 'vgg16-397923af.pth' carries the start of its file's SHA-256, which
    is then checked. Pickled code is never run. Raises WeightsError.
    """
    address = urlparse(source)
    if address.scheme in ("http", "https"):
        path = _download(source, Path(address.path).name, cache or Path(torch.hub.get_dir()) / "checkpoints")
    else:
        path = Path(url2pathname(address.path) if address.scheme == "file" else source)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises as many kinds as a file can be broken in
        raise WeightsError(f"{path} is truncated or no file of weights, replace it: {error}") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds no state dict: save model.state_dict(), not the model or a checkpoint")
    return dict(loaded)


def _download(url: str, name: str, cache: Path) -> Path:
    """The file at the address, downloaded unless it is in the cache; checked against the checksum in its name."""
    checksum = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    # Without a checksum, two addresses may end in the same name and mean different files.
    folder = cache if checksum else cache / hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / (name or "weights")
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, ValueError, HTTPException) as error:  # urllib's errors are OSErrors
            raise WeightsError(f"cannot download {url}: {error}; download it elsewhere and give the file") from error
    if checksum:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(checksum[1]):
            raise WeightsError(f"{path} from {url} is broken: its SHA-256 is {digest}; delete it and try again")
    return path
