"""Why a network's library gave up, in one line."""


def reason_of(error: BaseException) -> str:
    """Of PyTorch the first line says it, of OpenVINO, whose first one names a place in its source, the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return lines[-1] if lines[0].startswith("Exception from ") else lines[0]
