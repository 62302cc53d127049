import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange as FFmpegRange
from av.video.reformatter import Colorspace
from skimage import data

from cloud_node.color import Form, from_bytes, sharpness, to_bytes, to_rgb, yuv_to_rgb
from cloud_node.laegan.attention import sobel_sharpness
from common import color as eyes
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage, content_size

CPU = torch.device("cpu")
NAMES = {
    PixelFormat.I420: "yuv420p",
    PixelFormat.I422: "yuv422p",
    PixelFormat.NV12: "nv12",
    PixelFormat.YUYV: "yuyv422",
}


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Colours that change slowly, so that chroma siting and interpolation do not matter."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 40 + 170 * x / width, 40 + 170 * y / height
    return np.stack([red, green, 250 - red / 2 - green / 3], -1).astype(np.uint8)


def from_ffmpeg(rgb: np.ndarray, name: str, color_range: ColorRange, matrix: ColorMatrix) -> av.VideoFrame:
    """The frame that FFmpeg makes of an RGB picture, in a camera's format."""
    space = Colorspace.ITU709 if matrix is ColorMatrix.BT709 else Colorspace.ITU601
    target = FFmpegRange.MPEG if color_range is ColorRange.LIMITED else FFmpegRange.JPEG
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format=name, dst_colorspace=space, dst_color_range=target
    )


def raw_of(frame: av.VideoFrame, pixel_format: PixelFormat, color_range: ColorRange, matrix: ColorMatrix) -> RawImage:
    rows = []
    for plane in frame.planes:
        samples = {PixelFormat.YUYV: 2}.get(pixel_format, 1)
        width = plane.width * samples * (2 if pixel_format is PixelFormat.NV12 and rows else 1)
        data = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, :width]
        rows.append(data.reshape(-1))
    flat = np.ascontiguousarray(np.concatenate(rows))
    return RawImage(flat, frame.width, frame.height, pixel_format, color_range, matrix)


@pytest.mark.parametrize("matrix", list(ColorMatrix))
@pytest.mark.parametrize("color_range", list(ColorRange))
@pytest.mark.parametrize("pixel_format", list(NAMES))
def test_colours_are_those_of_ffmpeg(pixel_format: PixelFormat, color_range: ColorRange, matrix: ColorMatrix) -> None:
    picture = smooth_picture(192, 256)
    raw = raw_of(from_ffmpeg(picture, NAMES[pixel_format], color_range, matrix), pixel_format, color_range, matrix)
    rgb = (to_rgb([raw], CPU)[0].permute(1, 2, 0) * 255).round().numpy()
    error = np.abs(rgb - picture.astype(float))
    # FFmpeg rounds chroma down where it packs YUYV.
    assert error.mean() < (1.8 if pixel_format is PixelFormat.YUYV else 1.0) and error.max() <= 5


@pytest.mark.parametrize("matrix", list(ColorMatrix))
def test_limited_red_is_red(matrix: ColorMatrix) -> None:
    kr, kb = (0.299, 0.114) if matrix is ColorMatrix.BT601 else (0.2126, 0.0722)
    y, u, v = kr, -kr / (2 * (1 - kb)), 0.5
    rgb = yuv_to_rgb(torch.tensor([y, u, v]).view(1, 3, 1, 1), matrix).flatten()
    assert torch.allclose(rgb, torch.tensor([1.0, 0.0, 0.0]), atol=2e-3)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (6, 7)])
def test_odd_sizes_keep_their_shape(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    width, height = size[0] + (size[0] % 2 if pixel_format is PixelFormat.YUYV else 0), size[1]
    data = np.random.default_rng(0).integers(0, 256, content_size(pixel_format, width, height), dtype=np.uint8)
    rgb = to_rgb([RawImage(data, width, height, pixel_format)], CPU)
    assert rgb.shape == (1, 3, height, width)
    assert rgb.min() >= 0 and rgb.max() <= 1


def test_rgb_and_grey_come_through_exactly() -> None:
    rgb = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal((to_rgb([RawImage.from_rgb(rgb)], CPU)[0] * 255).round().byte().permute(1, 2, 0).numpy(), rgb)
    grey = RawImage(np.arange(20, dtype=np.uint8), 5, 4, PixelFormat.GRAY8)
    out = (to_rgb([grey], CPU)[0] * 255).round().byte().numpy()
    assert np.array_equal(out[0].reshape(-1), grey.data) and np.array_equal(out[0], out[2])


def test_formats_mix_in_one_batch() -> None:
    picture = smooth_picture(192, 256)
    i420 = raw_of(
        from_ffmpeg(picture, "yuv420p", ColorRange.FULL, ColorMatrix.BT601),
        PixelFormat.I420,
        ColorRange.FULL,
        ColorMatrix.BT601,
    )
    batch = to_rgb([RawImage.from_rgb(picture), i420], CPU)
    assert batch.shape == (2, 3, 192, 256)
    assert (batch[0] - batch[1]).abs().mean() < 0.01


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("size", [(33, 18), (2, 2), (1, 1)])
def test_a_batch_of_any_size_is_converted_as_each_alone(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    height, width = size
    width += width % 2 if pixel_format is PixelFormat.YUYV else 0
    noise = np.random.default_rng(0).integers(0, 256, (2, content_size(pixel_format, width, height)), np.uint8)
    images = [RawImage(row, width, height, pixel_format, ColorRange.LIMITED, ColorMatrix.BT709) for row in noise]
    batch = from_bytes(torch.from_numpy(noise), Form.of(images[0]))
    assert batch.shape == (2, 3, height, width)
    for one, image in zip(batch, images, strict=True):
        assert torch.equal(one, to_rgb([image], CPU)[0])
        assert np.abs(to_bytes(one[None])[0].numpy().astype(int) - eyes.to_rgb(image)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (64, 48), (400, 600)])
def test_sharpness_of_some_rows_is_that_of_the_frame(size: tuple[int, int]) -> None:
    photo = torch.from_numpy(data.astronaut()[:, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    frame = torch.nn.functional.interpolate(photo, size)
    assert sharpness(frame).item() == pytest.approx(sobel_sharpness(frame).item(), rel=0.05, abs=1e-5)
