"""The parts of a node between its gRPC service and its publisher, made from its settings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cloud_node.admission import Admission
from cloud_node.batch_bound import BatchBound
from cloud_node.device import helpers_of
from cloud_node.device_process import ProcessDevice
from cloud_node.device_wire import EngineSpec
from cloud_node.fates import Fates
from cloud_node.jobs import Job
from cloud_node.load import Load
from cloud_node.metrics import Activity
from cloud_node.policy import Policy
from cloud_node.scheduler import Scheduler
from cloud_node.served_weights import ServedWeights
from cloud_node.settings import CloudSettings
from cloud_node.streams import Streams
from cloud_node.supervisor import Supervisor
from cloud_node.suspects import Suspects
from cloud_node.worker import Worker

# A CPU gains nothing from a batch, and alone no frame waits for another; a GPU takes four photographs at once.
BATCH_PIXELS = {"cpu": 1, "mps": 1616 * 1080, "cuda": 4 * 1616 * 1080}


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a frame goes through: `admission`, the queue, a device of the `supervisor`."""

    scheduler: Scheduler[Job]
    supervisor: Supervisor
    admission: Admission


def assemble(
    settings: CloudSettings,
    policy: Policy,
    devices: Sequence[str],
    *,
    served: ServedWeights,
    activity: Activity,
    streams: Streams,
    fates: Fates,
) -> Assembly:
    """Nothing is begun yet."""
    scheduler: Scheduler[Job] = Scheduler(
        settings.batch.batch_pixels or BATCH_PIXELS.get(devices[0].partition(":")[0], 1),
        settings.batch.batch_frames,
        settings.batch.max_wait_ms * 1_000_000,
        int(settings.batch.window_ms * 1_000_000),
    )
    load, bound, suspects = Load(), BatchBound(scheduler), Suspects()
    workers = [
        Worker(
            partial(_make_device, settings, served, device, name, len(devices)),
            scheduler,
            fates.settle,
            give_back=fates.give_back,
            bound=bound,
            suspects=suspects,
            name=name,
            stuck_after_s=settings.network.stuck_after_s,
            on_batch=load.on_batch,
        )
        for device, name in zip(devices, _names(devices), strict=True)
    ]
    for worker in workers:
        worker.on_measured = partial(activity.on_batch, worker.name)
    supervisor = Supervisor(workers, scheduler, fates.give_back)
    admission = Admission(
        settings,
        policy,
        scheduler,
        load,
        streams,
        ticket=suspects.ticket,
        devices=lambda: supervisor.devices,
        wake=supervisor.wake,
    )
    return Assembly(scheduler, supervisor, admission)


def _names(devices: Sequence[str]) -> list[str]:
    return [
        device if device != "cpu" or len(devices) == 1 else f"cpu engine {number}"
        for number, device in enumerate(devices)
    ]


def _make_device(settings: CloudSettings, served: ServedWeights, device: str, name: str, devices: int) -> ProcessDevice:
    network = settings.network
    spec = EngineSpec(
        device,
        served.files,
        threads=network.threads,
        engines=network.engines,
        backend=network.backend,
        tile_pixels=network.tile_pixels,
        cpus=frozenset(network.device_cpus),
        helpers=helpers_of(network.device_cpus, device, devices),
        max_pixels=settings.limits.max_pixels,
        log_level=logging.getLogger().getEffectiveLevel(),
    )
    return ProcessDevice(spec, name)
