"""The frames to send, packed once."""

from itertools import islice

import numpy as np
from PIL import Image

from common.errors import FrameTooLarge, SourceError
from common.packing import PackedImage, check_pixels, pack
from common.pixels import Bytes, PixelFormat, RawImage, plane_shapes
from edge_node.sources import open_source


def load_images(source: str, count: int, size: tuple[int, int] | None = None) -> list[PackedImage]:
    """The first `count` frames of a source, packed; `size` is (width, height) to cut them to.

    Raises:
        SourceError: it cannot be opened, or gave no frame.
    """
    opened = open_source(source=source)
    try:
        images = [pack(cut(frame.image, *size) if size else frame.image) for frame in islice(opened.frames(), count)]
    finally:
        opened.close()
    if not images:
        raise SourceError(f"{source} gave no frame")
    return images


def cut(image: RawImage, width: int, height: int) -> RawImage:
    """The middle of an image, in its own pixel format.

    A larger image is cropped, not scaled, so that its noise stays, and with it what packing can do. A smaller one
    is enlarged until it covers the size. Odd sizes become even where the format needs it (YUYV).

    Raises:
        SourceError: the size is too large for any frame.
    """
    try:
        check_pixels(width, height)
    except FrameTooLarge as error:
        raise SourceError(f"--size {width}x{height}: {error}") from None
    step = 2 if image.pixel_format is PixelFormat.YUYV else 1
    width += width % step
    scale = max(width / image.width, height / image.height, 1.0)
    whole = round(image.width * scale / step) * step, round(image.height * scale)
    # An even corner, so that chroma stays where it was.
    left, top = (whole[0] - width) // 4 * 2, (whole[1] - height) // 4 * 2
    planes = []
    wanted = plane_shapes(image.pixel_format, width, height)
    enlarged = plane_shapes(image.pixel_format, *whole)
    for plane, (rows, columns, _), large in zip(image.planes, wanted, enlarged, strict=True):
        grown = plane if plane.shape == large else _resize(plane, large[1], large[0])
        y, x = top * large[0] // whole[1], left * large[1] // whole[0]
        planes.append(grown[y : y + rows, x : x + columns].reshape(-1))
    data = np.concatenate(planes)
    return RawImage(data, width, height, image.pixel_format, image.color_range, image.color_matrix)


def _resize(plane: Bytes, columns: int, rows: int) -> Bytes:
    """(rows, columns, samples) at another size."""
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane[..., index])).resize((columns, rows)))
        for index in range(plane.shape[2])
    ]
    return np.stack(channels, axis=-1)
