"""The night clip: its frames and the text in them."""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from common.errors import SourceError

Bytes = npt.NDArray[np.uint8]
Outline = tuple[tuple[float, float], ...]

CLIP = Path(__file__).with_name("night.mp4")
TRUTH = Path(__file__).with_name("night.json")


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """The text of one frame: what it says and where, clockwise from the top left, in pixels of the frame."""

    scene: str
    texts: tuple[str, ...]
    outlines: tuple[Outline, ...]


def load_truth(path: Path = TRUTH) -> tuple[FrameTruth, ...]:
    """The truth of every frame, in order. Raises SourceError where the file is missing or of another kind."""
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
        return tuple(
            FrameTruth(
                frame["scene"],
                tuple(region["text"] for region in frame["regions"]),
                tuple(tuple((float(x), float(y)) for x, y in region["polygon"]) for region in frame["regions"]),
            )
            for frame in frames
        )
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; restore it with git checkout {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is no description of a clip ({error!r}); make_clip.py writes one") from None


def decode(path: Path = CLIP) -> list[Bytes]:
    """The frames of a clip, uint8 RGB (H, W, 3). Raises SourceError where it cannot be read."""
    try:
        with av.open(str(path)) as container:
            return [
                frame.reformat(format="rgb24", src_colorspace="ITU709", dst_color_range="JPEG").to_ndarray()
                for frame in container.decode(video=0)
            ]
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"cannot read {path}: {error}; restore it with git checkout {path}") from None
