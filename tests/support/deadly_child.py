"""The process of a device that some frames kill: by the grey of their first pixel, as they are encoded or unpacked."""

import os
import signal
import sys
import time
from pathlib import Path

from cloud_node import device_child
from common import packing

KILLS_ENCODER, KILLS_UNPACKER, SLOW, HANGS = 200, 210, 220, 230  # greys
_encode, _unpack = packing.encode, packing.unpack


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def encode(rgb, *arguments):  # type: ignore[no-untyped-def]
    grey = int(rgb[0, 0, 0])
    if grey == KILLS_ENCODER:
        _die()
    if grey == SLOW:  # until a test says so
        while not Path(os.environ["DEADLY_GO"]).exists():
            time.sleep(0.005)
    return _encode(rgb, *arguments)


def unpack(image, **limits):  # type: ignore[no-untyped-def]
    raw = _unpack(image, **limits)
    grey = int(packing.to_rgb(raw)[0, 0, 0])
    if grey == KILLS_UNPACKER:
        _die()
    if grey == HANGS:
        time.sleep(600)
    return raw


if __name__ == "__main__":
    packing.encode, packing.unpack = encode, unpack
    device_child.main(sys.argv[1:])
