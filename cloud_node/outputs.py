"""What an engine gives for a frame. Imports no torch."""

from asyncio import Future
from dataclasses import dataclass

from common.packing import EncodedImage, PackedImage
from common.pixels import Bytes


@dataclass(frozen=True, slots=True)
class Enhanced:
    """One enhanced frame.

    `rgb` is (H, W, 3) uint8; sharpness is the mean Sobel magnitude of luma, 0..1, before and after, of every n-th row
    of a large frame and near that of all.
    """

    rgb: Bytes
    sharpness_before: float
    sharpness_after: float
    finite: bool  # False when the network gave NaN: not to be shown
    model: str  # the version that made it

    @property
    def pixels(self) -> int:
        return int(self.rgb.shape[0] * self.rgb.shape[1])


@dataclass(frozen=True, slots=True)
class Away:
    """One enhanced frame whose pixels stay in another process, which encodes them."""

    image: "Future[PackedImage | EncodedImage]"  # raises DeviceLost when that process ended
    sharpness_before: float
    sharpness_after: float
    finite: bool
    model: str
    pixels: int
