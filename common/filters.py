"""Reversible filters on the samples of an image, so that zstd finds less to say. All arithmetic is modulo 256.

A filter predicts and rearranges; it never adds a byte: a filtered image has the size of the raw one.
"""

import math
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from common.pixels import Bytes, PixelFormat, RawImage

Shape = tuple[int, int, int]  # components, rows, columns
ROWS, COLUMNS = 1, 2  # axes of a shape

TAIL_SAMPLES: Final = 16_384  # the pyramid ends here: another level costs more time than it saves bytes


class Filter(IntEnum):
    """How samples are predicted and ordered; the numbers are those of the wire."""

    NONE = 0
    PYRAMID = 1


def filter_image(image: RawImage, filter: Filter) -> Bytes:
    """Filtered samples of an image: flat, uint8, as many as `image.data` has."""
    return image.data if filter is Filter.NONE else pyramid(image)


def unfilter(samples: Bytes, pixel_format: PixelFormat, width: int, height: int, filter: Filter) -> Bytes:
    """Undo `filter_image` into a new flat array; `samples` has the content size of the image."""
    return samples.copy() if filter is Filter.NONE else unpyramid(samples, pixel_format, width, height)


# The pyramid. Each odd row is predicted by the mean of the even rows around it, then each odd column of the even
# rows by the even columns around it, and so on with the quarter that is left, whose samples are predicted by their
# left neighbours in the end. Luma is halved until it has the size of chroma and joins it. Unlike predictions by
# samples decoded just before, these are undone for a whole plane at a time, and a mean also halves the noise.


def pyramid(image: RawImage) -> Bytes:
    """Residuals of an image, coarse ones first, their nibbles apart."""
    luma, rest = components(image.data, image.pixel_format, image.width, image.height)
    streams = []
    for axis in joining_axes(luma.shape, rest.shape):
        luma, residuals = split(luma, axis)
        streams.append(residuals)
    planes = np.concatenate([luma, rest])
    if image.pixel_format is PixelFormat.RGB24:
        planes[1:] -= planes[0]
    for axis in pyramid_axes(planes.shape):
        planes, residuals = split(planes, axis)
        streams.append(residuals)
    planes[:, :, 1:] -= planes[:, :, :-1].copy()
    streams.append(planes)
    return split_nibbles(np.concatenate([residuals.reshape(-1) for residuals in reversed(streams)]))


def unpyramid(samples: Bytes, pixel_format: PixelFormat, width: int, height: int) -> Bytes:
    """Undo `pyramid`."""
    stream = join_nibbles(samples)
    data = np.empty_like(stream)
    luma, rest = components(data, pixel_format, width, height)
    luma_axes = joining_axes(luma.shape, rest.shape)
    rows, columns = halved(luma.shape, luma_axes)[1:]
    joined = (len(luma) + len(rest), rows, columns)
    axes = pyramid_axes(joined)

    tail = halved(joined, axes)
    planes = stream[: math.prod(tail)].reshape(tail).cumsum(axis=COLUMNS, dtype=np.uint8)
    planes = grow(planes, stream, joined, axes)
    if pixel_format is PixelFormat.RGB24:
        planes[1:] += planes[0]
    rest[...] = planes[len(luma) :]
    # To luma alone, what it grew to so far is the start of a stream whose residuals follow.
    luma[...] = grow(planes[: len(luma)], stream[rest.size :], luma.shape, luma_axes)
    return data


def components(data: Bytes, pixel_format: PixelFormat, width: int, height: int) -> tuple[Bytes, Bytes]:
    """Views of luma and of the other components, (N, rows, columns) each; in RGB24 green stands for luma."""
    half_w, half_h = (width + 1) // 2, (height + 1) // 2
    luma, chroma = data[: width * height].reshape(1, height, width), data[width * height :]
    match pixel_format:
        case PixelFormat.I420:
            return luma, chroma.reshape(2, half_h, half_w)
        case PixelFormat.I422:
            return luma, chroma.reshape(2, height, half_w)
        case PixelFormat.NV12:
            return luma, chroma.reshape(half_h, half_w, 2).transpose(2, 0, 1)
        case PixelFormat.YUYV:
            yuyv = data.reshape(height, half_w, 4).transpose(2, 0, 1)
            return data.reshape(1, height, 2 * width)[:, :, ::2], yuyv[1::2]
        case PixelFormat.RGB24:
            rgb = data.reshape(height, width, 3).transpose(2, 0, 1)
            return rgb[1:2], rgb[::2]
        case PixelFormat.GRAY8:
            return luma, chroma.reshape(0, height, width)


def joining_axes(luma: Shape, rest: Shape) -> list[int]:
    """Axes along which luma is halved to the size of the rest."""
    return [axis for axis in (ROWS, COLUMNS) if luma[axis] != rest[axis]]


def pyramid_axes(shape: Shape) -> list[int]:
    """Axes of the splits that leave at most TAIL_SAMPLES."""
    axes: list[int] = []
    while math.prod(halved(shape, axes)) > TAIL_SAMPLES:
        axes += [ROWS, COLUMNS]
    return axes


def halved(shape: Shape, axes: list[int]) -> Shape:
    """Shape of what is left after splits along `axes`."""
    sides = list(shape)
    for axis in axes:
        sides[axis] = (sides[axis] + 1) // 2
    return sides[0], sides[1], sides[2]


def split(planes: Bytes, axis: int) -> tuple[Bytes, Bytes]:
    """Even rows or columns, and the residuals of the odd ones."""
    even, odd = halves(planes, axis)
    even = np.ascontiguousarray(even)
    return even, odd - predict(even, odd.shape, axis)


def grow(planes: Bytes, stream: Bytes, shape: Shape, axes: list[int]) -> Bytes:
    """Undo the splits of planes of `shape` along `axes`; the stream is what remained, then their residuals."""
    for i in reversed(range(len(axes))):
        out = np.empty(halved(shape, axes[:i]), np.uint8)
        merge(planes, stream[planes.size : out.size], out, axes[i])
        planes = out
    return planes


def merge(even: Bytes, residuals: Bytes, out: Bytes, axis: int) -> None:
    """Undo `split` into `out`."""
    out_even, out_odd = halves(out, axis)
    odd = predict(even, out_odd.shape, axis)
    odd += residuals.reshape(odd.shape)
    if axis == COLUMNS and odd.shape == even.shape:
        pairs = out.view("<u2")  # both bytes at once: three times as fast as every second byte twice
        pairs[...] = odd
        pairs <<= np.uint16(8)
        pairs |= even
    else:
        out_even[...], out_odd[...] = even, odd


def halves(planes: Bytes, axis: int) -> tuple[Bytes, Bytes]:
    """Views of the even and of the odd rows or columns."""
    return (planes[:, ::2], planes[:, 1::2]) if axis == ROWS else (planes[:, :, ::2], planes[:, :, 1::2])


def predict(even: Bytes, shape: Shape, axis: int) -> Bytes:
    """Means, rounded down, of the even rows or columns around each odd one; past the last it is the last itself."""
    flat, step = even.reshape(-1), 1 if axis == COLUMNS else even.shape[COLUMNS]
    here, after = flat[:-step], flat[step:]
    mean = np.empty_like(flat)
    inner = mean[:-step]  # as if the lines were one: the last of each is put right below
    np.bitwise_xor(here, after, out=inner)
    np.right_shift(inner, np.uint8(1), out=inner)
    np.add(inner, here & after, out=inner)
    lines = mean.reshape(even.shape)
    if shape != even.shape:
        return np.ascontiguousarray(lines[:, : shape[ROWS], : shape[COLUMNS]])
    if axis == ROWS:
        lines[:, -1] = even[:, -1]
    else:
        lines[:, :, -1] = even[:, :, -1]
    return lines


def split_nibbles(residuals: Bytes) -> Bytes:
    """The high nibbles of each two neighbours in one byte, then their low nibbles.

    zstd codes a byte in a whole number of bits, at least one. Two small residuals in a byte share that rounding;
    8 is added so that -8..7 leave nothing to the high nibbles.
    """
    biased = residuals + np.uint8(8)
    end = residuals.size // 2 * 2
    words = biased[:end].view("<u2")
    swap_middle_nibbles(words)
    return np.concatenate([(words >> np.uint16(8)).astype(np.uint8), words.astype(np.uint8), biased[end:]])


def join_nibbles(samples: Bytes) -> Bytes:
    """Undo `split_nibbles`."""
    pairs = samples.size // 2
    residuals = np.empty_like(samples)
    words = residuals[: 2 * pairs].view("<u2")
    words[:] = samples[:pairs]
    words <<= np.uint16(8)
    words |= samples[pairs : 2 * pairs]
    swap_middle_nibbles(words)
    residuals[2 * pairs :] = samples[2 * pairs :]
    residuals -= np.uint8(8)
    return residuals


def swap_middle_nibbles(words: npt.NDArray[np.uint16]) -> None:
    """0xABCD to 0xACBD in place, and back."""
    swapped = words >> np.uint16(4)
    swapped ^= words
    swapped &= np.uint16(0x00F0)
    swapped *= np.uint16(0x0011)
    words ^= swapped
