"""Camera planes to RGB on the device, through Kornia."""

import kornia
import numpy as np
import torch
from torch import Tensor

from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage, plane_shapes

# Kornia's YUV functions take Y in 0..1, U in +-0.436 and V in +-0.615 and know BT.601 alone.
_KORNIA_U, _KORNIA_V = 0.436, 0.615
# ITU-R BT.709-6, item 3: Kr = 0.2126, Kb = 0.0722.
_KR, _KB = 0.2126, 0.0722
_BT709 = (
    (1.0, 0.0, 2 * (1 - _KR)),
    (1.0, -2 * _KB * (1 - _KB) / (1 - _KR - _KB), -2 * _KR * (1 - _KR) / (1 - _KR - _KB)),
    (1.0, 2 * (1 - _KB), 0.0),
)


def to_rgb(images: list[RawImage], device: torch.device) -> Tensor:
    """Raw images of one size and any formats as one RGB batch on the device.

    Bytes cross the bus as uint8; everything else happens on the device.

    Returns:
        (B, 3, H, W) float32 in 0..1.
    """
    return torch.cat([_one(image, device) for image in images])


def _one(image: RawImage, device: torch.device) -> Tensor:
    # Torch wants memory that it could write to; a decoded file may be read-only and is copied.
    flat = torch.from_numpy(np.require(image.data, requirements="W")).to(device, non_blocking=True)
    planes, start = [], 0
    for rows, columns, samples in plane_shapes(image.pixel_format, image.width, image.height):
        planes.append(flat[start : start + rows * columns * samples].view(rows, columns, samples))
        start += rows * columns * samples
    match image.pixel_format:
        case PixelFormat.RGB24:
            return planes[0].permute(2, 0, 1)[None].float() / 255
        case PixelFormat.GRAY8:
            luma = _luma(planes[0][..., 0], image.color_range)
            return luma.clamp(0, 1)[None, None].expand(1, 3, -1, -1)
        case PixelFormat.I420 | PixelFormat.I422:
            y, u, v = (plane[..., 0] for plane in planes)
        case PixelFormat.NV12:
            y, u, v = planes[0][..., 0], planes[1][..., 0], planes[1][..., 1]
        case PixelFormat.YUYV:
            y = planes[0][..., 0::2].reshape(image.height, image.width)
            u, v = planes[0][..., 1], planes[0][..., 3]
    chroma = torch.stack([_chroma(u, image.color_range), _chroma(v, image.color_range)])[None]  # (1, 2, h, w) +-0.5
    if chroma.shape[-2] != image.height:
        chroma = chroma.repeat_interleave(2, -2)[..., : image.height, :]
    chroma = chroma.repeat_interleave(2, -1)[..., : image.width]
    yuv = torch.cat([_luma(y, image.color_range)[None, None], chroma], 1)
    return yuv_to_rgb(yuv, image.color_matrix).clamp(0, 1)


def _luma(y: Tensor, color_range: ColorRange) -> Tensor:
    return (y.float() - 16) / 219 if color_range is ColorRange.LIMITED else y.float() / 255


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
    if matrix is ColorMatrix.BT709:
        return torch.einsum("ij,bjhw->bihw", yuv.new_tensor(_BT709), yuv)
    scale = yuv.new_tensor([1.0, 2 * _KORNIA_U, 2 * _KORNIA_V]).view(1, 3, 1, 1)
    rgb: Tensor = kornia.color.yuv_to_rgb(yuv * scale)
    return rgb
