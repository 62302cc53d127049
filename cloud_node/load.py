"""How long a frame would wait, from what batches took. Pure: pixels and durations go in, milliseconds come out."""

KEPT = 0.9  # of what was known, at each batch: a change shows after some ten batches
WINDOW_WAIT_MS = 1_000  # when frames wait longer than this, edges get smaller windows: older frames are worth less
RETRY_MS = (100, 30_000)


class Load:
    """The pace of a device, as an exponentially weighted mean over batches of all presets and sizes."""

    def __init__(self) -> None:
        self._pixels = self._ns = 0.0

    def on_batch(self, pixels: int, device_ns: int, frames: int) -> None:
        """A batch of `pixels`, all its frames together, kept a device busy for `device_ns`."""
        if pixels > 0 and device_ns > 0 and frames > 0:
            self._pixels = KEPT * self._pixels + pixels
            self._ns = KEPT * self._ns + device_ns

    @property
    def ns_per_pixel(self) -> float:
        """Of one device; 0 = nothing was measured yet."""
        return self._ns / self._pixels if self._pixels else 0.0

    def wait_ms(self, pixels_ahead: int, devices: int) -> float:
        """How long a frame waits behind so many pixels, shared by so many devices; 0 before the first batch."""
        return pixels_ahead * self.ns_per_pixel / max(1, devices) / 1e6


def window(most: int, wait_ms: float) -> int:
    """Frames that an edge may have out, 1..most: fewer the longer frames wait."""
    return most if wait_ms <= WINDOW_WAIT_MS else max(1, int(most * WINDOW_WAIT_MS / wait_ms))


def retry_after_ms(wait_ms: float, chance: float) -> int:
    """When to come again, in milliseconds: within the expected wait, so that a queue that empties finds work.

    `chance` in 0..1 spreads what was turned away together.
    """
    least, most = RETRY_MS
    return int(min(max(wait_ms, 2 * least), most) * (0.5 + chance / 2))
