"""The watchdog of a live source: is what it gives still new?"""

from typing import Final

import numpy as np

from common.pixels import RawImage

LONGEST_S: Final = 3600.0
SAMPLE_STEP: Final = 997  # bytes; two pictures of a living sensor differ in the first few samples


class FrameAge:
    """Notices that no picture comes, or the same one again and again, as from a camera whose firmware hangs.

    A scene may be so dark that its pictures are equal to the last bit. So each time that opening the camera
    again changed nothing the same picture is borne twice as long, up to an hour.

    Times are seconds of one monotonic clock, given by the caller.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._patience_s = limit_s
        self._picture: RawImage | None = None
        self._seen_s = self._changed_s = 0.0
        self._repeats = 0

    def opened(self, now_s: float) -> None:
        """The source was opened just now."""
        self._seen_s = self._changed_s = now_s
        self._repeats = 0

    def heard(self, now_s: float) -> None:
        """A picture came that nobody looks at."""
        self._seen_s = now_s

    def seen(self, picture: RawImage, now_s: float) -> None:
        """A picture came."""
        self._seen_s = now_s
        if self._picture is not None and same(self._picture, picture):
            self._repeats += 1
        else:
            self._changed_s, self._repeats, self._patience_s = now_s, 0, self.limit_s
        self._picture = picture

    @property
    def silent(self) -> str:
        """What `verdict` says where no picture comes."""
        return f"has given no new picture for {self.limit_s:g} s"

    def left_s(self, now_s: float) -> float:
        """Seconds until the lack of pictures is too long."""
        return max(0.0, self._seen_s + self.limit_s - now_s)

    def verdict(self, now_s: float) -> str:
        """Why the source should be opened again, in words that follow its name; "" = all is well."""
        if self.left_s(now_s) <= 0:
            return self.silent
        if self._repeats >= 2 and now_s - self._changed_s >= self._patience_s:
            held_s, self._patience_s = self._patience_s, min(self._patience_s * 2, LONGEST_S)
            return f"has given the same picture again and again for {held_s:g} s"
        return ""


def same(one: RawImage, other: RawImage) -> bool:
    """Whether two pictures are equal to the last bit; a few microseconds where they are not."""
    a, b = one.data, other.data
    return a.size == b.size and np.array_equal(a[::SAMPLE_STEP], b[::SAMPLE_STEP]) and np.array_equal(a, b)
