"""Camera planes to RGB and back to bytes on the device, through Kornia."""

from collections.abc import Sequence
from dataclasses import dataclass

import kornia
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloud_node.laegan.attention import LUMA
from common.filters import components
from common.pixels import Bytes, ColorMatrix, ColorRange, PixelFormat, RawImage, plane_shapes

# Kornia's YUV functions take Y in 0..1, U in +-0.436 and V in +-0.615 and know BT.601 alone.
_KORNIA_U, _KORNIA_V = 0.436, 0.615
# ITU-R BT.709-6, item 3: Kr = 0.2126, Kb = 0.0722.
_KR, _KB = 0.2126, 0.0722
SHARPNESS_ROWS = 96  # about as many rows of a frame tell its sharpness, but for patterns that repeat with them


@dataclass(frozen=True, slots=True)
class Form:
    """What the bytes of an image mean."""

    width: int
    height: int
    pixel_format: PixelFormat
    color_range: ColorRange
    color_matrix: ColorMatrix

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.pixel_format.name}"

    @classmethod
    def of(cls, image: RawImage) -> "Form":
        return cls(image.width, image.height, image.pixel_format, image.color_range, image.color_matrix)


def to_rgb(images: Sequence[RawImage], device: torch.device) -> Tensor:
    """Raw images of one size and any formats as one RGB batch on the device.

    Bytes cross the bus as uint8; everything else happens on the device.

    Returns:
        (B, 3, H, W) float32 in 0..1.
    """
    return torch.cat([from_bytes(tensor_of(image)[None].to(device), Form.of(image)) for image in images])


def tensor_of(image: RawImage) -> Tensor:
    """The image's bytes, (N,) uint8, in its own memory."""
    # Torch wants memory that it could write to; a decoded file may be read-only and is copied.
    return torch.from_numpy(np.require(image.data, requirements="W"))


def from_bytes(raw: Tensor, form: Form) -> Tensor:
    """Images of one form, (B, N) uint8 -> RGB (B, 3, H, W) float32 in 0..1, on the same device."""
    batch, height, width = len(raw), form.height, form.width
    planes, start = [], 0
    for rows, columns, samples in plane_shapes(form.pixel_format, width, height):
        planes.append(raw[:, start : start + rows * columns * samples].view(batch, rows, columns, samples))
        start += rows * columns * samples
    match form.pixel_format:
        case PixelFormat.RGB24:
            return planes[0].permute(0, 3, 1, 2).contiguous().float().div_(255)
        case PixelFormat.GRAY8:
            return _luma(planes[0][..., 0], form.color_range).clamp_(0, 1)[:, None].expand(-1, 3, -1, -1)
        case PixelFormat.I420 | PixelFormat.I422:
            y, u, v = (plane[..., 0] for plane in planes)
        case PixelFormat.NV12:
            y, u, v = planes[0][..., 0], planes[1][..., 0], planes[1][..., 1]
        case PixelFormat.YUYV:
            y = planes[0][..., 0::2].reshape(batch, height, width)
            u, v = planes[0][..., 1], planes[0][..., 3]
    # The matrix is linear: what chroma adds to luma is found at chroma's own resolution, then enlarged.
    black = torch.zeros_like(u, dtype=torch.float32)
    chroma = torch.stack([black, _chroma(u, form.color_range), _chroma(v, form.color_range)], 1)  # (B, 3, h, w) +-0.5
    offset = F.interpolate(yuv_to_rgb(chroma, form.color_matrix), scale_factor=(1.0, 2.0), mode="nearest")
    luma = _luma(y, form.color_range)[:, None]
    if u.shape[1] == height:
        return (luma + offset[..., :width]).clamp_(0, 1)
    even = height // 2
    pairs = luma[:, :, : 2 * even].unflatten(2, (even, 2)) + offset[:, :, :even, None, :width]
    rgb = pairs.flatten(2, 3)  # (B, 3, 2 * even, W)
    if height % 2:
        rgb = torch.cat([rgb, luma[:, :, -1:] + offset[:, :, -1:, :width]], 2)
    return rgb.clamp_(0, 1)


def to_bytes(rgb: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in 0..1, rounded -> (B, H, W, 3) uint8."""
    levels = rgb.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return torch.stack(levels.unbind(1), dim=-1)


def sharpness(rgb: Tensor, rows: int = SHARPNESS_ROWS) -> Tensor:
    """Mean Sobel gradient magnitude of the luma, of about `rows` rows: (B, 3, H, W) in 0..1, or the luma
    (B, 1, H, W) itself -> (B,) in 0..1.

    `laegan.attention.sobel_sharpness` looks at every row, and takes ten times as long.
    """
    height, width = rgb.shape[-2:]
    step = max(1, height // rows)
    if min(height, width) < 2 * rows:  # the border counts
        rgb = F.pad(rgb, (1, 1, 1, 1), mode="replicate")
        height += 2
    above, here, below = (_weigh(rgb[..., i : height - 2 + i : step, :]) for i in range(3))  # each (B, n, W)
    down, across = below - above, above + 2 * here + below
    vertical = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    horizontal = across[..., 2:] - across[..., :-2]
    return (vertical.square() + horizontal.square()).sqrt_().mean(dim=(1, 2)) / 8


def _weigh(rgb: Tensor) -> Tensor:
    if rgb.shape[1] == 1:
        return rgb[:, 0]
    return LUMA[0] * rgb[:, 0] + LUMA[1] * rgb[:, 1] + LUMA[2] * rgb[:, 2]


def _luma(y: Tensor, color_range: ColorRange) -> Tensor:
    return y.float().sub_(16).div_(219) if color_range is ColorRange.LIMITED else y.float().div_(255)


def _chroma(c: Tensor, color_range: ColorRange) -> Tensor:
    return (c.float() - 128) / (224 if color_range is ColorRange.LIMITED else 255)


def yuv_to_rgb(yuv: Tensor, matrix: ColorMatrix) -> Tensor:
    """Y'CbCr to R'G'B'.

    Args:
        yuv: (B, 3, H, W), Y in 0..1, Cb and Cr in -0.5..0.5.
        matrix: the camera's.

    Returns:
        (B, 3, H, W), 0..1 for colours inside the gamut.
    """
    y, cb, cr = yuv.unbind(1)
    if matrix is ColorMatrix.BT709:
        green = y - (2 * _KB * (1 - _KB) * cb + 2 * _KR * (1 - _KR) * cr) / (1 - _KR - _KB)
        return torch.stack([y + 2 * (1 - _KR) * cr, green, y + 2 * (1 - _KB) * cb], 1)
    rgb: Tensor = kornia.color.yuv_to_rgb(torch.stack([y, 2 * _KORNIA_U * cb, 2 * _KORNIA_V * cr], 1))
    return rgb


# The same with the components of a frame apart and each at every pixel, which takes few passes once compiled.


def at_every_pixel(data: Bytes, form: Form) -> list[Bytes]:
    """The components of a frame, each (1, 1, H, W): Y, Cb and Cr, or R, G and B, or grey alone."""
    height, width = form.height, form.width
    luma, rest = components(data, form.pixel_format, width, height)
    if rest.shape[2] < width:
        words = rest.astype(np.uint16, order="C")
        words *= np.uint16(257)  # the same byte twice
        rest = words.view(np.uint8)[:, :, :width]
    if rest.shape[1] < height:
        pairs = np.empty((len(rest), rest.shape[1], 2, width), np.uint8)
        pairs[...] = rest[:, :, None]
        rest = pairs.reshape(len(rest), -1, width)[:, :height]
    planes = [rest[0], luma[0], rest[1]] if form.pixel_format is PixelFormat.RGB24 else [luma[0], *rest]
    return [np.ascontiguousarray(plane).reshape(1, 1, height, width) for plane in planes]


def planes_to_rgb(planes: Sequence[Tensor], form: Form) -> list[Tensor]:
    """What `at_every_pixel` gives, as tensors, to R, G and B in 0..1: as `from_bytes` does it."""
    if form.pixel_format is PixelFormat.RGB24:
        return [plane.float() / 255 for plane in planes]
    y = _luma(planes[0], form.color_range)
    if form.pixel_format is PixelFormat.GRAY8:
        return [y.clamp(0, 1)] * 3
    cb, cr = (_chroma(plane, form.color_range) for plane in planes[1:])
    _, of_cb, of_cr = yuv_to_rgb(torch.eye(3)[:, :, None, None], form.color_matrix).flatten(1).tolist()
    return [(y + (a * cb + b * cr)).clamp(0, 1) for a, b in zip(of_cb, of_cr, strict=True)]


def luma_of(rgb: Sequence[Tensor]) -> Tensor:
    """R, G and B, (1, 1, H, W) each -> the same shape."""
    red, green, blue = rgb
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
