"""Packs frames for the link, as the step that it stands at says."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from common.frame import Priority
from common.pixels import RawImage
from edge_node import stepping
from edge_node.ledger import Flight
from edge_node.link import LinkMeter
from edge_node.settings import EdgeSettings
from edge_node.stepping import Step, stepper_for
from edge_node.steps import Steps

log = logging.getLogger(__name__)


class Packer:
    """One node's; `meter` knows the link's rate."""

    def __init__(
        self, settings: EdgeSettings, live: bool, meter: LinkMeter, steps: Steps, pixels: ThreadPoolExecutor
    ) -> None:
        self._settings, self._meter, self._steps, self._pixels = settings, meter, steps, pixels
        self._stepper = stepper_for(settings, live)

    def skips(self) -> bool:
        """Whether the next frame is one of those that are left out."""
        return self._stepper.skips()

    async def pack(self, flight: Flight, image: RawImage) -> None:
        """Give the flight its packed image."""
        await self._steps.watch("pack", self._pack(flight, image))

    def arrived(self, flight: Flight) -> None:
        """Its result came."""
        latency_s = (time.monotonic_ns() - flight.captured_ns) / 1e9
        self._stepper.arrived(latency_s, len(flight.frame.image.payload), self._meter.rate)

    async def _pack(self, flight: Flight, image: RawImage) -> None:
        step = self._next_step(flight.frame.priority)
        with flight.timeline.stage("pack", raw_bytes=image.data.size):
            packed = await asyncio.get_running_loop().run_in_executor(self._pixels, stepping.pack, image, step)
        self._stepper.packed(step, len(packed.payload))
        flight.frame, flight.sent_as = replace(flight.frame, image=packed), str(step)

    def _next_step(self, priority: Priority) -> Step:
        """How the next frame goes, said when it changes."""
        if priority is Priority.ESSENTIAL and not self._settings.stepping.step_down_essential:
            return Step()
        before, rate = self._stepper.step, self._meter.rate_now(time.monotonic())
        step = self._stepper.choose(rate)
        if step != before:
            log.warning("the link carries %.2f Mbit/s: frames go %s from now on, not %s", rate / 125_000, step, before)
        return step
