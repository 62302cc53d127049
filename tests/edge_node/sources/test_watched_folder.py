"""A watched folder with real writers: renamed, slow, stalled, broken and overwritten files."""

import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import SourceError
from common.packing import to_rgb
from edge_node.sources import Captured, open_source
from edge_node.sources.watched_folder import WatchedFolder, cut_off


def encoded(value: int, image_format: str = "JPEG", **options: object) -> bytes:
    """A picture with detail whose mean tells which one it is."""
    noise = np.random.default_rng(value).integers(0, 20, (120, 160, 3)) + value
    content = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(content, image_format, **options)
    return content.getvalue()


def value_of(captured: Captured) -> int:
    """The value that a whole picture was made with; a half grey one gives another."""
    rgb = to_rgb(captured.image)
    halves = [round(float(half.mean()) - 9.5) for half in (rgb[:60], rgb[60:])]
    assert abs(halves[0] - halves[1]) <= 2, "only half of it is there"
    return halves[0]


class Watching:
    """A watched folder that is read in a thread, as by a node."""

    def __init__(self, folder: Path) -> None:
        self.source = WatchedFolder(folder, poll_s=0.01, settle_s=0.04, broken_s=0.1, overwritten_s=0.1)
        self.seen: list[Captured] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for captured in self.source.frames():
            self.seen.append(captured)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, f"not in time: {self.names} {self.source.status}"
            time.sleep(0.005)

    @property
    def names(self) -> list[str]:
        return [captured.name for captured in self.seen]

    def end(self) -> None:
        self.source.close()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[[], Watching]]:
    started: list[Watching] = []

    def start() -> Watching:
        started.append(Watching(tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.end()


def put(path: Path, content: bytes) -> None:
    """Write elsewhere, then rename."""
    hidden = path.with_name(f".{path.name}.part")
    hidden.write_bytes(content)
    hidden.rename(path)


def test_what_is_there_comes_first_then_what_arrives(tmp_path: Path, watching) -> None:
    for number in (10, 9):
        put(tmp_path / f"{number}.jpg", encoded(number))
        os.utime(tmp_path / f"{number}.jpg", (1, 1))  # long at rest
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder.jpg").mkdir()
    watch = watching()
    watch.until(lambda: len(watch.seen) == 2)
    put(tmp_path / "11.png", encoded(11, "PNG"))
    watch.until(lambda: len(watch.seen) == 3)
    assert watch.names == ["9.jpg", "10.jpg", "11.png"]
    assert [value_of(captured) for captured in watch.seen] == pytest.approx([9, 10, 11], abs=2)
    assert watch.source.total is None and not watch.source.live


@pytest.mark.parametrize(
    ("name", "image_format", "options"),
    [
        ("a.jpg", "JPEG", {"subsampling": 2}),
        ("a.jpg", "JPEG", {"progressive": True, "subsampling": 2}),
        ("a.jpg", "JPEG", {"subsampling": 0}),
        ("a.png", "PNG", {}),
        ("a.webp", "WEBP", {"lossless": True}),
        ("a.bmp", "BMP", {}),
        ("a.tif", "TIFF", {}),
    ],
)
def test_a_slow_writer_that_stalls_is_waited_for(
    tmp_path: Path, watching, name: str, image_format: str, options: dict
) -> None:
    content, watch = encoded(60, image_format, **options), watching()
    with (tmp_path / name).open("wb") as file:
        for end in (len(content) // 3, len(content) * 9 // 10):
            file.write(content[file.tell() : end])
            file.flush()
            time.sleep(0.1)  # longer than a file has to rest: only its content can tell that it is not whole
        assert watch.seen == []
        file.write(content[file.tell() :])
    watch.until(lambda: len(watch.seen) == 1)
    assert value_of(watch.seen[0]) == pytest.approx(60, abs=2)
    time.sleep(0.08)
    assert len(watch.seen) == 1


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
def test_a_writer_that_makes_room_first(tmp_path: Path, watching, image_format: str) -> None:
    content, watch = encoded(60, image_format), watching()
    path = tmp_path / f"a.{image_format.lower()}"
    path = path.with_suffix(".jpg") if image_format == "JPEG" else path
    with path.open("wb") as file:
        file.truncate(len(content))
        file.write(content[: len(content) // 2])
        file.flush()
        time.sleep(0.1)
        if image_format != "BMP":  # any bytes make a bitmap
            assert watch.seen == []
        file.write(content[len(content) // 2 :])
    watch.until(lambda: bool(watch.seen) and watch.source.status.frames > (image_format == "BMP"))
    assert value_of(watch.seen[-1]) == pytest.approx(60, abs=2)


def test_the_same_name_again_is_a_new_picture(tmp_path: Path, watching) -> None:
    put(tmp_path / "snapshot.jpg", encoded(20))
    watch = watching()
    watch.until(lambda: len(watch.seen) == 1)
    put(tmp_path / "snapshot.jpg", encoded(120))
    watch.until(lambda: len(watch.seen) == 2)
    (tmp_path / "snapshot.jpg").write_bytes(encoded(200))
    watch.until(lambda: len(watch.seen) == 3)
    assert [value_of(captured) for captured in watch.seen] == pytest.approx([20, 120, 200], abs=2)


def test_a_broken_file_is_told_once_and_taken_when_it_was_repaired(
    tmp_path: Path, watching, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    with caplog.at_level(logging.WARNING):
        watch = watching()
        watch.until(lambda: watch.source.status.broken == 1)
        put(tmp_path / "b.jpg", encoded(50))
        watch.until(lambda: len(watch.seen) == 1)
        time.sleep(0.15)
    assert caplog.text.count("left out until it changes") == 1 and "a.jpg" in caplog.text
    put(tmp_path / "a.jpg", encoded(70))
    watch.until(lambda: len(watch.seen) == 2)
    assert watch.names == ["b.jpg", "a.jpg"]
    assert watch.source.status.broken == 1


def test_many_writers_lose_nothing(tmp_path: Path, watching) -> None:
    watch = watching()

    def write(first: int) -> None:
        for number in range(first, 60, 3):
            (put if number % 2 else Path.write_bytes)(tmp_path / f"{number}.jpg", encoded(number))

    writers = [threading.Thread(target=write, args=(first,)) for first in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    watch.until(lambda: len(set(watch.names)) == 60)
    time.sleep(0.08)
    assert {captured.name: value_of(captured) for captured in watch.seen}.keys() == {f"{n}.jpg" for n in range(60)}
    for captured in watch.seen:
        assert value_of(captured) == pytest.approx(int(captured.name[:-4]), abs=2)


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path, watching, caplog: pytest.LogCaptureFixture) -> None:
    folder, away = tmp_path / "share", tmp_path / "away"
    folder.mkdir()
    watch = Watching(folder)
    try:
        os.rename(folder, away)
        watch.until(lambda: watch.source.status.problem != "")
        os.rename(away, folder)
        put(folder / "1.jpg", encoded(30))
        watch.until(lambda: len(watch.seen) == 1)
    finally:
        watch.end()
    assert caplog.text.count("waiting for it") == 1 and "can be read again" in caplog.text


def test_deleted_files_are_forgotten(tmp_path: Path, watching) -> None:
    watch = watching()
    for number in range(5):
        put(tmp_path / "a.jpg", encoded(10 * number))
        watch.until(lambda number=number: len(watch.seen) == number + 1)
        (tmp_path / "a.jpg").unlink()
        watch.until(lambda: not watch.source._given)
    assert watch.source.status.frames == 5


def test_only_folders_can_be_watched(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="only a folder can be watched"):
        open_source(source=str(tmp_path / "a.jpg"), watch=True)
    with pytest.raises(SourceError, match="--watch or --loop"):
        open_source(source=str(tmp_path), watch=True, loop=True)
    source = open_source(source=str(tmp_path), watch=True)  # an empty one is fine
    source.close()
    assert list(source.frames()) == []


def test_a_jpeg_that_is_not_filled_yet(tmp_path: Path) -> None:
    content, path = encoded(60), tmp_path / "a.jpg"
    for end, expected in ((b"", False), (b"\0\0", False), (b"camera notes", False)):
        path.write_bytes(content + end)
        assert cut_off(path) is expected
    path.write_bytes(content[:-100] + bytes(100))
    assert cut_off(path)
