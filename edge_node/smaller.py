"""Frames in a smaller size, for a link that cannot carry them whole, and results back in the camera's size."""

from dataclasses import replace

import numpy as np
from PIL import Image

from common.filters import components
from common.pixels import Bytes, PixelFormat, RawImage, plane_shapes

# Interleaved formats become planar ones with the same chroma.
PLANAR = {PixelFormat.NV12: PixelFormat.I420, PixelFormat.YUYV: PixelFormat.I422}


def smaller(image: RawImage, scale: float) -> RawImage:
    """The image with sides of `scale` (0..1, 1 = as it is) times their length, rounded to even; each pixel is the mean
    of those it stands for.
    """
    width, height = (max(2, round(side * scale / 2) * 2) for side in (image.width, image.height))
    if width >= image.width or height >= image.height:
        return image
    if image.pixel_format is PixelFormat.RGB24:
        rgb = image.data.reshape(image.height, image.width, 3)
        return replace(image, data=_resized(rgb, width, height).reshape(-1), width=width, height=height)
    pixel_format = PLANAR.get(image.pixel_format, image.pixel_format)
    luma, chroma = components(image.data, image.pixel_format, image.width, image.height)
    planes = [
        _resized(np.ascontiguousarray(plane), columns, rows).reshape(-1)
        for plane, (rows, columns, _) in zip((*luma, *chroma), plane_shapes(pixel_format, width, height), strict=True)
    ]
    return replace(image, data=np.concatenate(planes), width=width, height=height, pixel_format=pixel_format)


def restored(rgb: Bytes, size: tuple[int, int]) -> Bytes:
    """An (H, W, 3) image in `size` (width, height), so that what is found in it has the camera's coordinates."""
    if rgb.shape[1::-1] == size:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def _resized(plane: Bytes, width: int, height: int) -> Bytes:
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BOX))
