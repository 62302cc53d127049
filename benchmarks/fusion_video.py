"""What fusion has left to do in compressed video: the bursts of benchmarks/fusion.py through H.264.

    python benchmarks/fusion_video.py --data DATA

One receipt in 40 to 120 times less light, 16 frames, still: bytes a frame, PSNR of the newest and of the fused frame,
frames merged.
"""

import argparse
import io
from pathlib import Path

import av
import numpy as np
from bursts import burst
from fusion import at_offset, fused, psnr

from cloud_node.evaluation.cases import DARKNESS, dark_receipts, read_image
from common.color import to_rgb
from common.pixels import RawImage
from edge_node.fusion import planes_of
from edge_node.sources.planes import to_raw

QUALITIES = (18, 23, 28)  # constant rate factors of libx264


def through_h264(frames: list[RawImage], quality: int) -> tuple[list[RawImage], int]:
    """The frames as a camera's video stream delivers them, and its bytes."""
    file = io.BytesIO()
    options = {"crf": str(quality), "preset": "veryfast", "tune": "zerolatency"}
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuvj420p"
        for image in frames:
            frame = av.VideoFrame(image.width, image.height, "yuvj420p")
            for target, plane in zip(frame.planes, planes_of(image), strict=True):
                padded = np.zeros((target.height, target.line_size), np.uint8)
                padded[:, : plane.shape[1]] = plane
                target.update(padded)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    size = file.tell()
    file.seek(0)
    with av.open(file) as container:
        return [to_raw(frame) for frame in container.decode(video=0)], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    given = parser.parse_args()
    name = "receipts 40-120x"
    case = dark_receipts(name, given.data).cases[7]
    scene = burst(read_image(given.data / "receipts_sroie" / "images" / case.name), 7, DARKNESS[name], 16, jpeg=False)
    pixels = scene.clean.shape[0] * scene.clean.shape[1]
    print("quality  bits a pixel  newest dB  fused dB  merged")
    for quality in QUALITIES:
        frames, size = through_h264(scene.frames, quality)
        out, fuser = fused(frames, 16)
        alone, together = psnr(to_rgb(frames[-1]), scene.clean), psnr(to_rgb(out), at_offset(scene.clean, fuser))
        bits = size * 8 / len(frames) / pixels
        print(f"{quality:7}  {bits:12.2f}  {alone:9.1f}  {together:8.1f}  {fuser.merged:6.1f}")


if __name__ == "__main__":
    main()
