"""Any photograph as (H, W, 3) uint8 sRGB: JPEG, PNG, WebP, TIFF, BMP and camera RAW, or an error that names it."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

RAW_SUFFIXES = (".arw", ".raf", ".dng", ".nef", ".cr2")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", *RAW_SUFFIXES)
SMALLEST = 32  # pixels; nothing can be learned from less
SRGB_CURVE = (2.4, 12.92)  # power and slope of LibRaw's output; its own default is BT.709's
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {  # its value -> what brings the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DataError(RuntimeError):
    """The data cannot be trained on; the message names the folder or file, what is wrong and what to do."""


def read_rgb(path: Path, half_size: bool = False) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 sRGB, upright by its EXIF orientation.

    Grey is repeated, palettes are looked up, alpha is dropped, 16 bit is scaled from 0..65535. Colour profiles are
    not applied. RAW is developed with the camera's white balance and without brightening, so that a dark exposure
    stays dark. half_size: RAW at half the width and height, one pixel from each 2x2 of the mosaic, much faster.

    Raises DataError for a file that is absent, empty, broken, truncated, of floating-point or 32-bit samples, or
    smaller than 32x32, and for RAW where rawpy is not installed.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty, 0 bytes: remove it or copy it again")
    try:
        rgb = _develop(path, half_size) if path.suffix.lower() in RAW_SUFFIXES else _decode(path)
    except DataError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more, by format
        what = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)  # rawpy's
        raise DataError(
            f"{path} is no image that can be read: {what or type(error).__name__}. Remove it or copy it again"
        ) from error
    large_enough(rgb.shape[1], rgb.shape[0], path)
    return rgb


def large_enough(width: int, height: int, path: Path) -> None:
    """DataError where a side is below 32 pixels."""
    if min(height, width) < SMALLEST:
        raise DataError(
            f"{path} is too small to train on: {width}x{height}, at least {SMALLEST}x{SMALLEST} is needed. Remove it"
        )


def check(path: Path) -> None:
    """Look at a file's header only. DataError where it is no image or too small; its pixels may still be broken.

    RAW is taken at its word: LibRaw would read the whole file.
    """
    if path.suffix.lower() in RAW_SUFFIXES and path.stat().st_size:
        return
    try:
        with Image.open(path) as file:
            width, height = file.size
    except Exception:  # OpenCV may know it; if not, this says what is wrong
        read_rgb(path)
    else:
        large_enough(width, height, path)


def find_images(folder: Path) -> list[Path]:
    """Every photograph under a folder by its suffix, sorted; hidden files, as macOS leaves them, are no photographs."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _decode(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as file:
            file.load()  # finds what is truncated, which OpenCV fills up in silence
            turn, deep = UPRIGHT.get(_orientation(file)), _bits(file, path) > 8
            image = None if deep else _eight_bit(file)
    except UnidentifiedImageError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        turn, image = None, None  # 16-bit colour in most of TIFF's compressions
    image = image or Image.fromarray(_deep(path))
    return np.asarray(image.transpose(turn) if turn is not None else image)


def _eight_bit(file: Image.Image) -> Image.Image:
    if file.mode == "P":  # through RGBA, or a palette with transparency loses colours
        return file.convert("RGBA").convert("RGB")
    return file.convert("RGB")


def _deep(path: Path) -> np.ndarray:
    """16-bit grey or colour, with or without alpha, as (H, W, 3) uint8."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError(f"{path} is no image that can be read. Remove it, or save it as an 8-bit PNG")
    if pixels.dtype == np.uint16:
        pixels = np.round(pixels / np.float32(257)).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise DataError(f"{path} has samples of {pixels.dtype}: convert it to 8 or 16 bits a channel")
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if grey else np.ascontiguousarray(pixels[..., 2::-1])


def _bits(file: Image.Image, path: Path) -> int:
    """Bits of one sample, from the header: Pillow gives 16-bit colour as 8, and cuts instead of rounding."""
    if file.format == "PNG":
        with path.open("rb") as header:
            return header.read(25)[24]  # IHDR comes first: signature 8, length 4, name 4, width 4, height 4
    if file.format == "TIFF":
        return max(file.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    return 8


def _orientation(file: Image.Image) -> int:
    try:
        return int(file.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF beside good pixels: as if there were none
        return 1


def _develop(path: Path, half_size: bool) -> np.ndarray:
    try:
        import rawpy
    except ImportError as error:
        raise DataError(f"{path} is camera RAW, which needs rawpy: pip install 'lamplight[train]'") from error
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            output_color=rawpy.ColorSpace.sRGB,
            output_bps=8,
            gamma=SRGB_CURVE,
            half_size=half_size,
        )
