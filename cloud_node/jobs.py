"""A frame inside the cloud node, and where its result goes."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud_node.scheduler import Ticket
from common import packing
from common.frame import Frame, Outcome, Result
from common.packing import EncodedImage, ImageFormat, PackedImage
from common.pixels import RawImage
from common.telemetry import Timeline


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a result image is to be encoded."""

    image_format: ImageFormat
    quality: int = 0  # 0 = as measured best


@dataclass(slots=True, eq=False)
class Job:
    """One accepted frame on its way through the node."""

    frame: Frame
    encoding: Encoding
    timeline: Timeline
    preset: str = ""  # of the network; empty = the node's default
    share: float = 1.0  # of a device's time, against other edges of the same priority
    release: Callable[[], None] = lambda: None  # credit returns to the edge; harmless when called again
    reply: "asyncio.Future[Result] | None" = None  # for the unary call; else the result is published
    encoded: EncodedImage | None = None  # the picture of a unary call that came as a file
    alone: bool = False  # it shares no batch: a device was lost with such a frame (`suspects`)
    image_broken: bool = False  # it failed because of what came, not because of this node
    arrived_unix_ns: int = field(default_factory=time.time_ns)
    arrived_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def abandoned(self) -> bool:
        """Nobody waits for it any more."""
        return self.reply is not None and self.reply.done()

    @property
    def packed_bytes(self) -> int:
        """Of its picture, as it came."""
        return len(self.encoded.data if self.encoded is not None else self.frame.image.payload)

    @property
    def bucket(self) -> str:
        """Frames of which size share its batches, in words."""
        return f"{self.frame.image.width}x{self.frame.image.height}"

    def unpack(self, max_pixels: int) -> RawImage:
        """The frame's pixels. Raises ImageError."""
        if self.encoded is not None:
            return RawImage.from_rgb(packing.decode(self.encoded, max_pixels=max_pixels))
        return packing.unpack(self.frame.image, max_pixels=max_pixels)

    def result(
        self,
        outcome: Outcome,
        reason: str = "",
        image: PackedImage | EncodedImage | None = None,
        model: str = "",
        sharpness: tuple[float, float] = (0.0, 0.0),
        batch_size: int = 0,
    ) -> Result:
        """What became of the frame."""
        return Result(
            id=self.frame.id,
            attempt=self.frame.attempt,
            priority=self.frame.priority,
            captured_unix_ns=self.frame.captured_unix_ns,
            outcome=outcome,
            image=image,
            reason=reason,
            model=model,
            sharpness_before=sharpness[0],
            sharpness_after=sharpness[1],
            stages_ns=dict(self.timeline.stages_ns),
            batch_size=batch_size,
            trace=self.timeline.trace,
        )


def ticket(job: Job, width: int, height: int, expires_ns: int) -> Ticket[Job]:
    """What the scheduler must know of a job."""
    return Ticket(
        edge=job.frame.id.edge,
        priority=job.frame.priority,
        # A file may be turned when it is decoded: it goes alone.
        bucket=(job.preset, width, height) if job.encoded is None and not job.alone else id(job),
        pixels=width * height,
        bytes=job.packed_bytes,
        arrived_ns=job.arrived_ns,
        job=job,
        expires_ns=expires_ns,
        share=job.share,
    )
