"""Pictures that never reach a node; with one the client is tested in tests/end_to_end."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import packing
from common.errors import ImageError
from common.packing import EncodedImage, ImageFormat, PackedImage
from edge_node.client import Client, _load


def png_header(width: int, height: int) -> bytes:
    """A PNG file that states a size and holds no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 10_000), (12_000, 10_000), (8_000, 6_000)])
def test_vast_pictures_are_refused_in_words(size: tuple[int, int], tmp_path: Path, free_port: int) -> None:
    path = tmp_path / "vast.png"
    path.write_bytes(png_header(*size))
    with Client(f"127.0.0.1:{free_port}") as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for picture in (path, path.read_bytes()):
            with pytest.raises(ImageError, match="pixels"):
                client.enhance(picture)


def test_what_is_no_picture(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    Image.new("L", (300, 200), 90).save(tmp_path / "whole.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:-2_000])
    with Client(f"127.0.0.1:{free_port}") as client:
        with pytest.raises(ImageError, match="is not an image"):
            client.enhance(tmp_path / "notes.txt")
        with pytest.raises(ImageError, match="No such file"):
            client.enhance(tmp_path / "nowhere.jpg")
        with pytest.raises(ImageError, match=r"nowhere.*cannot be read"):
            client.enhance("nowhere\0.jpg")
        with pytest.raises(ImageError, match=r"cut\.tif|the picture"):
            client.enhance(tmp_path / "cut.tif")


def test_files_the_node_reads_go_as_they_are_and_others_as_pixels(tmp_path: Path) -> None:
    dark = (np.arange(20 * 30 * 3) % 40).astype(np.uint8).reshape(20, 30, 3)
    Image.fromarray(dark).save(tmp_path / "a.png")
    sent = _load(tmp_path / "a.png")
    assert isinstance(sent, EncodedImage) and sent.format is ImageFormat.PNG
    assert sent.data == (tmp_path / "a.png").read_bytes()
    Image.fromarray(dark).save(tmp_path / "a.bmp")
    sent = _load(tmp_path / "a.bmp")
    assert isinstance(sent, PackedImage)
    assert np.array_equal(packing.decode(sent), dark)
    Image.fromarray(np.full((20, 30), 2570, np.uint16)).save(tmp_path / "deep.tif")
    assert set(packing.decode(_load(tmp_path / "deep.tif")).ravel().tolist()) == {10}
