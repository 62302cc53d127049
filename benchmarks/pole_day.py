"""A day as a camera on a pole sees it, one frame every 5 s, as a video file: what `endurance.py --day` plays.

    python benchmarks/pole_day.py day.mkv [--rate 6]

Night until 9 and from 17 o'clock, with an hour of twilight on the side of the day; a sign that stays, and words on
plates that come for half a minute on average and go, so that five frames of six show what the one before showed. Every
frame has noise of its own.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw
from skimage import data

EVERY_S = 5
DAY = 24 * 3600 // EVERY_S  # frames
WIDTH, HEIGHT = 480, 320
NIGHT = 1 / 12  # of the light of day
DAWN_H, DUSK_H, TWILIGHT_H = 9.0, 16.0, 1.0
PLATE_FRAMES = 6  # on average; then as long without one
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


def light(hour: float) -> float:
    """Of the full light of day, at a time of day: 1/12 to 1."""
    risen = min((hour - DAWN_H) / TWILIGHT_H, (DUSK_H + TWILIGHT_H - hour) / TWILIGHT_H)
    return NIGHT ** (1 - float(np.clip(risen, 0, 1)))


def scene(plate: str, at: int) -> np.ndarray:
    """The street by day: (H, W, 3) float32, with a plate at this place from the left where there is one."""
    photo = Image.fromarray(data.astronaut()).resize((WIDTH, HEIGHT))
    draw = ImageDraw.Draw(photo)
    draw.rectangle((20, 20, 270, 84), fill="white")
    draw.text((30, 26), "STATION", fill="black", font_size=48)
    if plate:
        draw.rectangle((at, 220, at + 250, 290), fill="white")
        draw.text((at + 10, 228), plate, fill="black", font_size=48)
    return np.asarray(photo, np.float32)


def frames(count: int = DAY, seed: int = 1) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8, from midnight on."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.8, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)
    plate, street = "", scene("", 0)
    for number in range(count):
        if rng.random() < 1 / PLATE_FRAMES:
            plate = "" if plate else "".join(rng.choice(list(LETTERS), 3)) + str(rng.integers(100, 999))
            street = scene(plate, int(rng.integers(0, WIDTH - 250)))
        top, left = rng.integers(0, 64, 2)
        level = light(number * EVERY_S / 3600)
        yield (street * level + noise[top : top + HEIGHT, left : left + WIDTH]).clip(0, 255).astype(np.uint8)


def write(path: Path, rate: int, count: int = DAY) -> None:
    """As motion JPEG of high quality: the noise stays."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for pixels in frames(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=int, default=6, help="frames/s that it is played at (default: 6)")
    given = parser.parse_args()
    write(given.out, given.rate)


if __name__ == "__main__":
    main()
