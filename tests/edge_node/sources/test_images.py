import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import SourceError
from common.packing import to_rgb
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from edge_node.sources import open_source
from edge_node.sources.images import natural_key, read_image


def picture(width: int = 48, height: int = 32) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((40 + 150 * np.stack([x, y, 1 - x], axis=2)).astype(np.uint8))


def rgb_of(path: Path) -> np.ndarray:
    return to_rgb(read_image(path)).astype(int)


@pytest.mark.parametrize(
    ("subsampling", "expected"), [(2, PixelFormat.I420), (1, PixelFormat.I422), (0, PixelFormat.RGB24)]
)
@pytest.mark.parametrize("size", [(48, 32), (47, 31)])
def test_jpeg_gives_its_own_planes(
    tmp_path: Path, subsampling: int, expected: PixelFormat, size: tuple[int, int]
) -> None:
    path = tmp_path / "a.jpg"
    picture(*size).save(path, quality=95, subsampling=subsampling)
    image = read_image(path)
    assert image.pixel_format is expected
    assert (image.width, image.height) == size
    assert (image.color_range, image.color_matrix) == (ColorRange.FULL, ColorMatrix.BT601)
    assert np.abs(rgb_of(path) - np.asarray(Image.open(path))).mean() < 2


def test_progressive_and_grey_jpeg(tmp_path: Path) -> None:
    picture().save(tmp_path / "p.jpg", progressive=True, subsampling=2)
    picture().convert("L").save(tmp_path / "g.jpg")
    assert read_image(tmp_path / "p.jpg").pixel_format is PixelFormat.I420
    grey = read_image(tmp_path / "g.jpg")
    assert grey.pixel_format is PixelFormat.GRAY8
    np.testing.assert_allclose(
        grey.data.reshape(32, 48).astype(int), np.asarray(Image.open(tmp_path / "g.jpg")), atol=2
    )


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif"])
def test_other_files_give_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    picture().save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert read_image(path).pixel_format is PixelFormat.RGB24
    np.testing.assert_array_equal(rgb_of(path), np.asarray(picture()))


def test_a_png_named_jpg_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(rgb_of(tmp_path / "a.jpg"), np.asarray(picture()))


@pytest.mark.parametrize("exif", range(1, 9))
@pytest.mark.parametrize(("suffix", "subsampling"), [("jpg", 2), ("jpg", 1), ("png", None)])
@pytest.mark.parametrize("size", [(48, 32), (47, 31)])
def test_exif_orientation(
    tmp_path: Path, exif: int, suffix: str, subsampling: int | None, size: tuple[int, int]
) -> None:
    tags = Image.Exif()
    tags[0x0112] = exif
    path = tmp_path / f"a.{suffix}"
    options = {"subsampling": subsampling, "quality": 95} if subsampling else {}
    picture(*size).save(path, exif=tags, **options)
    expected = picture(*size)
    operation = [
        None, None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
    ][exif]  # fmt: skip
    if operation is not None:
        expected = expected.transpose(operation)
    assert rgb_of(path).shape == np.asarray(expected).shape
    assert np.abs(rgb_of(path) - np.asarray(expected)).mean() < 3


def test_alpha_palette_cmyk_and_sixteen_bits(tmp_path: Path) -> None:
    half = picture().convert("RGBA")
    half.putalpha(Image.linear_gradient("L").resize(half.size).point(lambda v: 255 if v > 127 else 0))
    half.save(tmp_path / "alpha.png")
    alpha = rgb_of(tmp_path / "alpha.png")
    assert alpha[0].max() == 0
    np.testing.assert_array_equal(alpha[-1], np.asarray(picture())[-1])

    picture().quantize(64).save(tmp_path / "palette.png")
    assert np.abs(rgb_of(tmp_path / "palette.png") - np.asarray(picture())).mean() < 8

    picture().convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert read_image(tmp_path / "cmyk.jpg").pixel_format is PixelFormat.RGB24
    assert np.abs(rgb_of(tmp_path / "cmyk.jpg") - np.asarray(picture())).mean() < 8

    deep = np.linspace(0, 65535, 48 * 32).astype(np.uint16).reshape(32, 48)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(rgb_of(tmp_path / name)[:, :, 1], deep >> 8)

    picture().convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(rgb_of(tmp_path / "bits.png"))) == {0, 255}


def test_a_folder_is_read_in_natural_order_and_skips_what_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("frame10.jpg", "frame2.PNG", "Frame1.jpeg"):
        picture().save(tmp_path / name)
    whole = io.BytesIO()
    picture(400, 300).save(whole, "JPEG")
    (tmp_path / "frame3.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "frame4.png").write_bytes(b"")
    (tmp_path / "frame5.webp").write_bytes(b"not an image")
    (tmp_path / "notes.txt").write_text("not an image either")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    source = open_source(source=str(tmp_path))
    assert (source.live, source.total) == (False, 6)
    with caplog.at_level(logging.WARNING):
        captured = list(source.frames())
    assert [c.name for c in captured] == ["Frame1.jpeg", "frame2.PNG", "frame10.jpg"]
    assert all(c.captured_unix_ns > 1_600_000_000_000_000_000 for c in captured)
    assert source.status.broken == 3
    assert source.total == 3
    for name in ("frame3.jpg", "frame4.png", "frame5.webp"):
        assert name in caplog.text


def test_damaged_exif_does_not_end_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture().save(tmp_path / "1.png")
    picture().save(tmp_path / "2.png", exif=b"Exif\0\0II*\0\x08\0\0\0\x01")  # cut off inside its first entry
    picture().save(tmp_path / "3.png")
    with caplog.at_level(logging.WARNING):
        names = [captured.name for captured in open_source(source=str(tmp_path)).frames()]
    assert names == ["1.png", "3.png"]
    assert "2.png is no image or is broken" in caplog.text


def test_floating_point_pixels_are_an_error(tmp_path: Path) -> None:
    Image.new("F", (8, 6)).save(tmp_path / "a.tif")
    with pytest.raises(SourceError, match="floating-point"):
        read_image(tmp_path / "a.tif")


def test_loop_starts_again_and_close_ends_it(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture().save(tmp_path / name)
    source = open_source(source=str(tmp_path), loop=True)
    assert source.total is None
    names = []
    for captured in source.frames():
        names.append(captured.name)
        if len(names) == 5:
            source.close()
    assert names == ["a.png", "b.png", "a.png", "b.png", "a.png"]


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        open_source(source=str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(SourceError, match=r"a\.jpg"):
        list(open_source(source=str(tmp_path / "a.jpg")).frames())
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(SourceError, match="none of the 2 images"):
        list(open_source(source=str(tmp_path)).frames())
    with pytest.raises(SourceError, match="none of the 2 images"):
        list(open_source(source=str(tmp_path), loop=True).frames())
    with pytest.raises(SourceError, match="no file or folder"):
        open_source(source=str(tmp_path / "missing.jpg"))


def test_more_pixels_than_allowed_is_an_error(tmp_path: Path) -> None:
    Image.new("1", (10_000, 7_000)).save(tmp_path / "vast.png", compress_level=1)
    with pytest.raises(SourceError, match=r"70,000,000 pixels"):
        list(open_source(source=str(tmp_path / "vast.png")).frames())


def test_natural_order() -> None:
    names = ["b.jpg", "a10.jpg", "a2.jpg", "A1.jpg", "10.jpg", "9.jpg"]
    assert [p.name for p in sorted(map(Path, names), key=natural_key)] == [
        "9.jpg", "10.jpg", "A1.jpg", "a2.jpg", "a10.jpg", "b.jpg",
    ]  # fmt: skip


def test_real_photographs_give_planes_that_look_as_pillow_sees_them(shared_data: Path) -> None:
    for path in sorted((shared_data / "dicm").glob("*.jpg"))[:4]:
        image = read_image(path)
        expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert image.pixel_format in (PixelFormat.I420, PixelFormat.I422, PixelFormat.RGB24)
        assert np.abs(to_rgb(image).astype(int) - expected).mean() < 2
