import logging
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import SourceError
from common.packing import to_rgb
from common.pixels import ColorRange, PixelFormat
from edge_node.sources import open_source


def gradients(count: int, width: int = 192, height: int = 120) -> list[np.ndarray]:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return [(50 + 150 * np.stack([x, y, np.full_like(x, i / count)], axis=2)).astype(np.uint8) for i in range(count)]


def noisy(count: int, width: int = 320, height: int = 240) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 80, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def cut(path: Path, share: float) -> Path:
    short = path.with_stem(f"{path.stem}-cut")
    content = path.read_bytes()
    short.write_bytes(content[: int(len(content) * share)])
    return short


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "expected", "values"),
    [
        ("a.mp4", "libx264", "yuv420p", PixelFormat.I420, ColorRange.LIMITED),
        ("a.mkv", "libx264", "yuv422p", PixelFormat.I422, ColorRange.LIMITED),
        ("a.avi", "mjpeg", "yuvj420p", PixelFormat.I420, ColorRange.FULL),
        ("a.mov", "libx264", "yuv420p10le", PixelFormat.I420, ColorRange.LIMITED),
    ],
)
def test_frames_of_a_file(
    encode_video: Any, name: str, codec: str, pixel_format: str, expected: PixelFormat, values: ColorRange
) -> None:
    pictures = gradients(6)
    path = encode_video(name, pictures, codec=codec, pixel_format=pixel_format)
    source = open_source(source=str(path))
    assert (source.name, source.live) == (name, False)
    assert source.total in (6, None)
    captured = list(source.frames())
    assert [c.name for c in captured] == [f"{name}#{i}" for i in range(6)]
    for frame, picture in zip(captured, pictures, strict=True):
        assert (frame.image.pixel_format, frame.image.color_range) == (expected, values)
        assert np.abs(to_rgb(frame.image).astype(int) - picture).mean() < 6


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p"])
@pytest.mark.parametrize(("matrix", "quarter_turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_clip_filmed_sideways_stands_upright(
    encode_video: Any, pixel_format: str, matrix: tuple[int, int, int, int], quarter_turns: int
) -> None:
    pictures = gradients(2)
    path = encode_video("phone.mp4", pictures, pixel_format=pixel_format)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # the display matrix in the track header
    a, b, c, d = (value << 16 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    for captured, picture in zip(open_source(source=str(path)).frames(), pictures, strict=True):
        expected = np.rot90(picture, quarter_turns).astype(int)
        assert np.abs(to_rgb(captured.image).astype(int) - expected).mean() < 6


def test_odd_sizes(encode_video: Any) -> None:
    path = encode_video("odd.mp4", gradients(3, 161, 121), codec="mpeg4")
    sizes = [(c.image.width, c.image.height) for c in open_source(source=str(path)).frames()]
    assert sizes == [(161, 121)] * 3


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("a.mp4", "libx264", "yuv420p", {"movflags": "faststart"}),
        ("a.mkv", "libx264", "yuv420p", {}),
        ("a.avi", "mjpeg", "yuvj420p", {}),
        ("a.ts", "libx264", "yuv420p", {}),
    ],
)
def test_a_cut_off_file_gives_what_it_has_and_a_warning(
    encode_video: Any,
    caplog: pytest.LogCaptureFixture,
    name: str,
    codec: str,
    pixel_format: str,
    options: dict[str, str],
) -> None:
    path = cut(encode_video(name, noisy(20), codec=codec, pixel_format=pixel_format, container_options=options), 0.6)
    with caplog.at_level(logging.WARNING):
        captured = list(open_source(source=str(path)).frames())
    assert 1 <= len(captured) < 20
    assert path.name in caplog.text


def test_a_whole_file_gives_no_warning(encode_video: Any, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        list(open_source(source=str(encode_video(name, gradients(10)))).frames())
    assert caplog.text == ""


def test_damage_in_the_middle_is_passed(encode_video: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = encode_video("a.avi", noisy(20), codec="mjpeg", pixel_format="yuvj420p")
    content = bytearray(path.read_bytes())
    middle = content.index(b"\xff\xd8", len(content) // 2)
    after = content.index(b"\xff\xd8", middle + 2)
    content[middle : after - 8] = bytes(after - 8 - middle)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        captured = list(open_source(source=str(path)).frames())
    assert len(captured) == 19
    assert "damaged" in caplog.text


def test_a_file_cut_before_its_index_is_an_error(encode_video: Any) -> None:
    path = cut(encode_video("a.mp4", noisy(10)), 0.5)
    with pytest.raises(SourceError, match="cut off before its index"):
        open_source(source=str(path))


def test_a_file_without_one_whole_frame_is_an_error(encode_video: Any) -> None:
    path = cut(encode_video("a.mp4", noisy(10), container_options={"movflags": "faststart"}), 0.1)
    with pytest.raises(SourceError, match="damaged or cut off"):
        list(open_source(source=str(path)).frames())


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a", "a.mkv"])
@pytest.mark.parametrize(
    "content", [b"", b"only words\n" * 200, bytes(range(256)) * 40, b"\x1b[31mcolour\x1b[0m\n" * 99]
)
def test_what_is_no_video_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=name):
        list(open_source(source=str(path)).frames())


def test_loop_and_close(encode_video: Any) -> None:
    source = open_source(source=str(encode_video("a.mp4", gradients(3))), loop=True)
    assert source.total is None
    names = []
    for captured in source.frames():
        names.append(captured.name)
        if len(names) == 7:
            source.close()
    assert names == [f"a.mp4#{i}" for i in (0, 1, 2, 0, 1, 2, 0)]


def test_close_from_another_thread_and_before_the_start(encode_video: Any) -> None:
    path = encode_video("a.mp4", gradients(3))
    source = open_source(source=str(path), loop=True)
    frames = source.frames()
    next(frames)
    closer = threading.Thread(target=source.close)
    closer.start()
    closer.join(60)
    assert not closer.is_alive()
    assert len(list(frames)) == 0
    unread = open_source(source=str(path))
    unread.close()
    unread.close()
    assert list(unread.frames()) == []


def test_a_real_night_drive(encode_video: Any, shared_data: Path) -> None:
    from PIL import Image

    photographs = sorted((shared_data / "plates_ro" / "images").glob("*.jpg"))[:3]
    pictures = [np.asarray(Image.open(p).convert("RGB")) for p in photographs]
    captured = list(open_source(source=str(encode_video("drive.mp4", pictures))).frames())
    assert len(captured) == 3
    for frame, picture in zip(captured, pictures, strict=True):
        assert np.abs(to_rgb(frame.image).astype(int) - picture).mean() < 6
