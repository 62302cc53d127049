"""The frames that are sent: the demo's dark clip, scaled and packed once, kept in a file that every driver reads."""

import struct
from pathlib import Path

from common import wire
from common.packing import PackedImage, pack
from lamplight.v1 import image_pb2

CLIP = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "night.mp4"
LENGTH = struct.Struct("<I")


def make(file: Path, width: int, height: int, count: int) -> None:
    """Write `count` packed I420 frames of the clip, each behind its length."""
    import av  # the drivers of the peers read the file and have no decoder

    from edge_node.sources.planes import to_raw

    with av.open(str(CLIP)) as clip, file.open("wb") as out:
        for _, frame in zip(range(count), clip.decode(video=0), strict=False):
            small = frame.reformat(width, height, format="yuv420p")
            body = wire.packed_to_proto(pack(to_raw(small))).SerializeToString()
            out.write(LENGTH.pack(len(body)) + body)


def load(file: Path) -> list[PackedImage]:
    """What `make` wrote."""
    data, start, frames = file.read_bytes(), 0, []
    while start < len(data):
        (size,) = LENGTH.unpack_from(data, start)
        start += LENGTH.size
        frames.append(wire.packed_from_proto(image_pb2.PackedImage.FromString(data[start : start + size])))
        start += size
    return frames
