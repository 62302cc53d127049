import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

EncodeVideo = Callable[..., Path]


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared photographs are not here")
    return SHARED_DATA


@pytest.fixture
def encode_video(tmp_path: Path) -> EncodeVideo:
    """Encode RGB pictures with PyAV and give the file."""

    def encode(
        name: str,
        pictures: Iterable[np.ndarray[Any, Any]],
        *,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        container_options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        stream: Any = None
        with av.open(str(path), "w", options=container_options or {}) as container:
            for picture in pictures:
                if stream is None:
                    stream = container.add_stream(codec, rate=10)
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = pixel_format
                    stream.options = {"preset": "ultrafast"} if codec == "libx264" else {}
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return encode


def follow(source: Any, done: Callable[[list[Any]], bool], limit_s: float = 120.0) -> list[Any]:
    """Frames of a source until `done(frames)` holds; fails when it ends or takes too long before that."""
    timer = threading.Timer(limit_s, source.close)
    timer.start()
    seen: list[Any] = []
    try:
        for captured in source.frames():
            seen.append(captured)
            if done(seen):
                return seen
        raise AssertionError(f"not seen in {len(seen)} frames: {source.status}")
    finally:
        timer.cancel()
        source.close()


@pytest.fixture(name="follow")
def follow_fixture() -> Callable[..., list[Any]]:
    return follow
