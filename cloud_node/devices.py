"""Which devices a node uses. Torch is imported where it is asked for what is there, and not for the CPU alone."""

from collections.abc import Sequence

from common.errors import DeviceError


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
