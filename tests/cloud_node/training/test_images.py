import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from cloud_node.training.images import DataError, check, find_images, read_rgb

WIDE = np.zeros((40, 60, 3), np.uint8)  # red above, green below left, blue below right
WIDE[:20, :, 0] = WIDE[20:, :30, 1] = WIDE[20:, 30:, 2] = 200


def write_dng(path: Path, mosaic: np.ndarray, white: int = 4095) -> None:
    """The least that LibRaw develops: an uncompressed RGGB mosaic with sRGB's matrix and a neutral white balance."""
    xyz_to_srgb = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)
    tags = [
        (50706, "B", 4, bytes((1, 4, 0, 0)), True),  # DNG version
        (50708, "s", 0, "Test", True),  # camera
        (33421, "H", 2, (2, 2), True),  # mosaic of 2x2
        (33422, "B", 4, bytes((0, 1, 1, 2)), True),  # RGGB
        (50717, "H", 1, white, True),
        (50721, "2i", 9, tuple(v for entry in xyz_to_srgb for v in (entry, 10000)), True),
        (50728, "2I", 3, (1, 1) * 3, True),  # neutral
        (50778, "H", 1, 21, True),  # the matrix is for D65
    ]
    tifffile.imwrite(path, mosaic.astype(np.uint16), photometric=32803, extratags=tags, metadata=None)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg", "webp"])
def test_colour(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(WIDE).save(path, **({"lossless": True} if suffix == "webp" else {}))
    rgb = read_rgb(path)
    assert rgb.shape == WIDE.shape and rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - WIDE).mean() < (4 if suffix == "jpg" else 1e-9)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    grey = mode in ("1", "L", "LA")
    Image.fromarray(WIDE).convert(mode).save(path)
    rgb = read_rgb(path)
    assert rgb.shape == WIDE.shape
    if grey:
        assert (rgb[..., :1] == rgb).all()
    else:
        assert np.abs(rgb.astype(int) - WIDE).mean() < 12  # a palette and inks are coarse


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 40 * 60).reshape(40, 60, 1).astype(np.uint8)
    Image.fromarray(np.concatenate([WIDE, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), WIDE)
    deep = np.concatenate([WIDE[..., ::-1], alpha], axis=2).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "b.png"), deep)
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.png"), WIDE)


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    Image.fromarray(WIDE).quantize(4).save(tmp_path / "a.png", transparency=b"\x00\x80\xff\x10")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), WIDE)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_and_rounded(channels: int, suffix: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    deep = ramp if channels == 1 else np.stack([ramp, ramp[::-1], ramp.T], axis=-1)
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), deep if channels == 1 else deep[..., ::-1])
    want = np.round(deep / 257).astype(np.uint8).reshape(64, 64, channels)
    np.testing.assert_array_equal(read_rgb(path), np.broadcast_to(want, (64, 64, 3)))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_turns_the_picture_upright(suffix: str, tmp_path: Path) -> None:
    """All eight orientations, by Pillow's own account of what each means: the stored turn, undone."""
    stored = {1: WIDE, 2: WIDE[:, ::-1], 3: WIDE[::-1, ::-1], 4: WIDE[::-1], 5: WIDE.swapaxes(0, 1)}
    stored |= {6: np.rot90(WIDE), 7: np.rot90(WIDE, 2).swapaxes(0, 1), 8: np.rot90(WIDE, -1)}
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, quality=95)
        assert np.abs(read_rgb(path).astype(int) - WIDE).mean() < 5, orientation


def test_raw_is_developed_as_srgb_without_brightening(tmp_path: Path) -> None:
    write_dng(tmp_path / "a.dng", np.full((96, 128), 1000))
    linear = 1000 / 4095
    want = (1.055 * linear ** (1 / 2.4) - 0.055) * 255
    whole, half = (read_rgb(tmp_path / "a.dng", half_size=half) for half in (False, True))
    assert whole.shape == (96, 128, 3) and half.shape == (48, 64, 3)
    assert np.abs(whole - want).max() <= 2 and np.abs(half - want).max() <= 2


def test_raw_keeps_its_colours(tmp_path: Path) -> None:
    mosaic = np.full((96, 128), 100)
    mosaic[0::2, 0::2] = 3000  # red
    write_dng(tmp_path / "a.DNG", mosaic)
    red, green, blue = read_rgb(tmp_path / "a.DNG")[20:-20, 20:-20].reshape(-1, 3).mean(axis=0)
    assert red > 200 and green < 70 and blue < 70


def test_raw_without_rawpy_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dng(tmp_path / "a.dng", np.full((96, 128), 1000))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(DataError, match=r"a\.dng is camera RAW.*lamplight\[train\]"):
        read_rgb(tmp_path / "a.dng")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "deep.png", "deep.tif", "a.dng"])
def test_truncated_files(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3))
    whole = tmp_path / name
    if name == "a.dng":
        write_dng(whole, noise[..., 0] * 16)
    elif name.startswith("deep"):
        cv2.imwrite(str(whole), noise.astype(np.uint16) * 257)
    else:
        Image.fromarray(noise.astype(np.uint8)).save(whole)
    assert read_rgb(whole).shape == noise.shape
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{name} is no image that can be read.*Remove it"):
        read_rgb(whole)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.arw", "a.raf", "a.dng", "a.nef", "a.cr2"])
def test_files_that_are_no_images(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no image at all " * 40)
    with pytest.raises(DataError, match=f"{name} is no image that can be read.*Remove it"):
        read_rgb(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    for look in (read_rgb, check):
        with pytest.raises(DataError, match=f"{name} is empty, 0 bytes"):
            look(tmp_path / name)
    with pytest.raises(DataError, match="there is no file .*absent.png"):
        read_rgb(tmp_path / "absent.png")


def test_tiny_and_floating_point(tmp_path: Path) -> None:
    Image.new("RGB", (64, 31)).save(tmp_path / "tiny.png")
    for look in (read_rgb, check):
        with pytest.raises(DataError, match=r"tiny.png is too small to train on: 64x31, at least 32x32.*Remove it"):
            look(tmp_path / "tiny.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "least.png")
    check(tmp_path / "least.png")
    assert read_rgb(tmp_path / "least.png").shape == (32, 32, 3)
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((64, 64, 3), np.float32), photometric="rgb")
    with pytest.raises(DataError, match=r"float.tif has samples of float32: convert it to 8 or 16 bits"):
        read_rgb(tmp_path / "float.tif")


def test_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("b/x.JPG", "a/y.Arw", "a/notes.txt", "a/._y.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == [tmp_path / "a" / "y.Arw", tmp_path / "b" / "x.JPG"]
