"""A folder of JPEG pictures, one a frame."""

import io
import re
from pathlib import Path
from typing import Final

from PIL import Image

from common.frame import Reading
from edge_node.sinks.drawing import annotate
from edge_node.sinks.sink import Failures, Shown, check_writable

QUALITY: Final = 90
MAX_NAME_BYTES: Final = 120
SESSION_LETTERS: Final = 8


class AnnotatedImages:
    """Writes `000017-5f0c9a17-street.jpg`: the frame's sequence number, the first letters of its session, since each
    run counts from 0, and its name made safe.

    Raises:
        SettingsError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        check_writable(self.folder)
        self.failures = Failures(f"pictures to {self.folder}")

    def write(self, shown: Shown) -> None:
        picture = annotate(shown)
        if picture is None:
            return
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "JPEG", quality=QUALITY)
        path = self.folder / picture_name(shown.reading)
        with self.failures.counted():
            path.write_bytes(content.getvalue())

    def close(self) -> None:
        """Nothing is left open between frames."""


def picture_name(reading: Reading) -> str:
    """The file name of a frame's picture."""
    session = safe_stem(reading.id.session)[:SESSION_LETTERS]
    return f"{reading.id.sequence:06d}-{session}-{safe_stem(reading.name)}.jpg"


def safe_stem(name: str) -> str:
    """A frame's name as the stem of a file name on any system.

    >>> safe_stem("street.jpg"), safe_stem("clip.mp4#17"), safe_stem("../../etc/passwd"), safe_stem("rtsp://cam/1")
    ('street', 'clip.mp4_17', 'etc_passwd', 'rtsp_cam_1')
    """
    stem = re.sub(r"\.(jpe?g|png|webp|bmp|tiff?)$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")
    return stem.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "frame"
