"""Which devices and processors a node uses. Torch is imported to ask what is there, and not for the CPU alone."""

import logging
import os
from collections.abc import Sequence

from cloud_node.settings import CloudSettings
from common.errors import DeviceError, SettingsError

log = logging.getLogger(__name__)


def devices_of(settings: CloudSettings) -> list[str]:
    """The devices that the settings ask for, one of them as often as it has engines.

    Raises:
        DeviceError: if one is not there.
        SettingsError: if it cannot have so many engines.
    """
    devices, note = device_names(settings.gpus, settings.device)
    engines = settings.network.engines
    if engines > 1:
        if devices[0] != "cpu":
            raise SettingsError(f"--engines {engines}: a GPU has one engine; leave it out")
        devices *= engines
    if note:
        log.warning(note)
    return devices


def leave_cpus(device_cpus: Sequence[int]) -> None:
    """Keep off the processors that are for the network alone; all threads and children from now on do so.

    Raises:
        SettingsError: if this process may not use them.
    """
    wanted = set(device_cpus)
    if not wanted or not hasattr(os, "sched_setaffinity"):
        return
    mine = os.sched_getaffinity(0)
    if not wanted <= mine:
        raise SettingsError(f"--device-cpus {','.join(map(str, sorted(wanted)))}: this process may use {sorted(mine)}")
    if mine - wanted:
        os.sched_setaffinity(0, mine - wanted)


def device_names(gpus: Sequence[int] | None, device: str) -> tuple[list[str], str]:
    """The devices to use, as torch names them, and a line that says why if nobody asked for them. Nothing is begun on
    any of them.

    Raises:
        DeviceError: if a device that was asked for is not there.
    """
    if device == "cpu" and gpus is None:
        return ["cpu"], ""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus is not None:
        missing = [index for index in gpus if not 0 <= index < count]
        if missing or not gpus:
            have = f"devices 0 to {count - 1} are there" if count else "this machine has no CUDA device"
            instead = "--gpus 0" if count else "--device cpu"
            raise DeviceError(f"--gpus {','.join(map(str, gpus))}: {have}; use {instead}")
        return [f"cuda:{index}" for index in dict.fromkeys(gpus)], ""
    if device:
        try:
            chosen = torch.device(device)
            if chosen.type == "cuda" and not (chosen.index or 0) < count:
                raise RuntimeError(f"this machine has {count} CUDA devices")
            if chosen.type != "cuda":
                torch.empty(1, device=chosen)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(f"--device {device}: {reason}; use --device cpu") from None
        return [str(chosen)], ""
    if count:
        return ["cuda:0"], ""
    return ["cpu"], "no CUDA device found: the network runs on the CPU, much slower than on a GPU"
