"""An H.264 video of the annotated frames."""

import contextlib
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from common.errors import SettingsError
from common.pixels import Bytes
from edge_node.sinks.drawing import annotate
from edge_node.sinks.sink import Failures, Shown, check_writable

# Fragments keep what was written playable when the node is killed.
CONTAINER: Final = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
ENCODER: Final = "libx264" if "libx264" in av.codecs_available else "h264"
SECONDS_BETWEEN_KEYFRAMES: Final = 2


class AnnotatedVideo:
    """Writes an MP4 at a constant rate; when the frame size changes, a new file: out.mp4, out-2.mp4... Files that are
    there already, of other runs, stay as they are: the first free number is taken.

    Odd sizes are padded by a pixel, because 4:2:0 needs even ones.

    Raises:
        SettingsError: the file cannot be written, or `fps` is not above 0.
    """

    def __init__(self, path: Path | str, fps: float = 10.0) -> None:
        self.path = Path(path)
        if not fps > 0:
            raise SettingsError(f"a video needs a frame rate above 0, not {fps}")
        if self.path.suffix.lower() != ".mp4" or self.path.is_dir():
            raise SettingsError(f"cannot write the video {self.path}: name a file that ends in .mp4")
        check_writable(self.path.parent)
        self.fps = Fraction(fps).limit_denominator(1001)
        self.failures = Failures(str(self.path), also=(av.FFmpegError, ValueError))
        self.paths: list[Path] = []
        self._container: Any = None
        self._stream: Any = None
        self._frames = 0
        self._number = 1  # of the newest file

    def write(self, shown: Shown) -> None:
        picture = annotate(shown)
        if picture is None:
            return
        picture = even(picture)
        height, width, _ = picture.shape
        with self.failures.counted():
            if self._stream is None or (self._stream.width, self._stream.height) != (width, height):
                self._finish()
                self._start(width, height)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = self._frames, 1 / self.fps
            try:
                packets = self._stream.encode(frame)
            except Exception:  # an encoder that failed is of no use any more: the next frame begins a new file
                self._drop()
                raise
            self._frames += 1
            self._container.mux(packets)

    def close(self) -> None:
        with self.failures.counted():
            self._finish()

    def _start(self, width: int, height: int) -> None:
        path, self._number = unused(self.path, self._number)
        try:
            container, stream = self._opened(path, width, height)
        except BaseException:
            path.unlink(missing_ok=True)  # else every frame that fails leaves another
            raise
        self._container, self._stream, self._frames = container, stream, 0
        self.paths.append(path)

    def _opened(self, path: Path, width: int, height: int) -> tuple[Any, Any]:
        container: Any = av.open(str(path), "w", format="mp4", options=CONTAINER)
        try:
            return container, self._stream_of(container, width, height)
        except BaseException:
            with contextlib.suppress(Exception):  # what was wrong at first is what is told
                container.close()
            raise

    def _stream_of(self, container: Any, width: int, height: int) -> Any:
        stream = container.add_stream(ENCODER, rate=self.fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = max(1, round(self.fps * SECONDS_BETWEEN_KEYFRAMES))
        if ENCODER == "libx264":
            stream.options = {"preset": "veryfast", "crf": "21"}
        container.start_encoding()  # opens the file: what is wrong with it comes up here
        return stream

    def _drop(self) -> None:
        """Close what cannot be finished; without a frame in it the file goes."""
        container, self._container, self._stream = self._container, None, None
        with contextlib.suppress(Exception):
            container.close()
        if not self._frames:
            self.paths.pop().unlink(missing_ok=True)

    def _finish(self) -> None:
        container, stream = self._container, self._stream
        self._container = self._stream = None
        if container is not None:
            try:
                container.mux(stream.encode(None))
            finally:
                container.close()


def unused(path: Path, first: int = 1) -> tuple[Path, int]:
    """Makes an empty file with that name, or with the first free number after it, and gives the number too:
    a.mp4, a-2.mp4, a-3.mp4... Numbers below `first` are not looked at."""
    for number in itertools.count(first):
        free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            free.touch(exist_ok=False)
        except FileExistsError:
            continue
        return free, number
    raise AssertionError


def even(picture: Bytes) -> Bytes:
    """Pad an (H, W, 3) picture to even sides by repeating its last row and column."""
    height, width, _ = picture.shape
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
