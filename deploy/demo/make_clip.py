"""Make the night clip of the demo: real photographs with signs in them, in 32 to 50 times less light than by day.

    python deploy/demo/make_clip.py --check

writes `night.mp4` and `night.json` (the true outline of every line of text in every frame, how the clip was made,
and whom to thank for the photographs). The same seed gives the same frames. The noise is that of a phone's
sensor, as measured for ELD and PMN. Needs the `dev` extra and scikit-learn, which carries two of the photographs.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cloud_node.training.darkness import CAMERAS, record, to_linear, to_srgb
from common.polygons import match
from common.text_detection import create_detector
from deploy.demo.clip import CLIP, TRUTH, Bytes, FrameTruth, decode, load_truth
from deploy.demo.scenes import PHOTOGRAPHS, SCENES, Scene, Window
from deploy.demo.signs import SCALE, Floats, hang

HERE = Path(__file__).parent
WIDTH, HEIGHT, FPS, FRAMES_PER_SCENE, SEED = 600, 400, 8, 5, 2023
CAMERA = "imx686_phone"
LOG_GAIN = 0.8  # log K of the sensor: digital numbers for one electron
WARM = np.array([1.0, 0.78, 0.5], np.float32)  # the colour of lamp light


@dataclass(frozen=True)
class ClipFrame:
    """One frame: by day and at night, uint8 RGB (400, 600, 3), and the outlines of its text (N, 4, 2) in pixels."""

    scene: Scene
    day: Bytes
    night: Bytes
    texts: tuple[str, ...]
    outlines: Floats


def load_photographs(names: Iterable[str] = PHOTOGRAPHS) -> dict[str, Bytes]:
    """Photographs as uint8 RGB. Raises SystemExit with what to install where a package is missing."""
    loaded = {}
    for name in names:
        photograph = PHOTOGRAPHS[name]
        spec = find_spec(photograph.package)
        if spec is None or not spec.submodule_search_locations:
            project = {"sklearn": "scikit-learn", "skimage": "scikit-image"}[photograph.package]
            raise SystemExit(f"the photograph '{name}' is in {project}, which is not installed: pip install {project}")
        with Image.open(Path(list(spec.submodule_search_locations)[0]) / photograph.path) as image:
            loaded[name] = np.asarray(image.convert("RGB"))
    return loaded


def build(scene: Scene, photographs: dict[str, Bytes]) -> tuple[Floats, Floats, Floats, tuple[str, ...]]:
    """A scene on its canvas: by day and at night in linear light, the outlines of its text, the text."""
    width, height = WIDTH * SCALE, HEIGHT * SCALE
    photograph = np.ascontiguousarray(np.rot90(photographs[scene.photograph], scene.turn))
    larger = max(width / photograph.shape[1], height / photograph.shape[0])
    photograph = cv2.resize(photograph, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
    top, left = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
    canvas = photograph[top : top + height, left : left + width].astype(np.float32) / 255
    canvas = np.clip(canvas * np.array(scene.tint, np.float32), 0, 1)
    outlines, texts = [], []
    for sign in scene.signs:
        canvas, found = hang(canvas, sign, photographs)
        outlines.append(found)
        texts += [line.text for line in sign.lines]
    day = to_linear(canvas)

    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / SCALE
    light = np.full((height, width, 1), 1 / scene.darkness, np.float32) * np.ones(3, np.float32)
    for lamp in scene.lamps:
        distance = np.hypot(x - lamp.at[0], y - lamp.at[1]) / lamp.reach
        light = light + lamp.level / (1 + distance[..., None] ** 2) ** 2.5 * WARM
    night = day * light
    for window in scene.windows:
        day = _lit_window(day, window, 0.6, photographs)
        night = _lit_window(night, window, window.level, photographs)
    return day, night, np.concatenate(outlines), tuple(texts)


def _lit_window(canvas: Floats, window: Window, level: float, photographs: dict[str, Bytes]) -> Floats:
    left, top, width, height = (value * SCALE for value in window.box)
    frame, bar = 5 * SCALE, 2 * SCALE
    room = photographs[window.photograph]
    half = room.shape[0] * width // height // 2
    room = room[:, room.shape[1] // 2 - half : room.shape[1] // 2 + half]
    room = cv2.resize(room, (width, height), interpolation=cv2.INTER_AREA)
    pane = to_linear(room.astype(np.float32) / 255) * WARM * level + 0.3 * WARM * level
    pane[:, width // 2 - bar : width // 2 + bar] *= 0.1
    pane[height // 3 - bar : height // 3 + bar] *= 0.1
    canvas = canvas.copy()
    canvas[top - frame : top + height + frame, left - frame : left + width + frame] *= 0.15
    canvas[top : top + height, left : left + width] = pane
    return canvas


def view(scene: Scene, step: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The 2x3 affine map from canvas to canvas that the camera makes of it at `step` in [0, 1], hand shake included."""
    x, y, zoom = (a + (b - a) * step for a, b in zip(scene.start, scene.end, strict=True))
    shake = rng.normal(0, 0.5, 2)
    x, y = (x + shake[0]) * SCALE, (y + shake[1]) * SCALE
    turn = cv2.getRotationMatrix2D((WIDTH * SCALE / 2, HEIGHT * SCALE / 2), rng.normal(0, 0.08), zoom)
    turn[:, 2] -= (x, y)
    return np.asarray(turn, np.float64)


def make_frames(seed: int = SEED, photographs: dict[str, Bytes] | None = None) -> Iterator[ClipFrame]:
    """All frames in order. The same seed gives the same pixels."""
    rng = np.random.default_rng(seed)
    camera = replace(CAMERAS[CAMERA], log_gain=(LOG_GAIN, LOG_GAIN))
    photographs = photographs or load_photographs()
    for scene in SCENES:
        day, night, outlines, texts = build(scene, photographs)
        for number in range(FRAMES_PER_SCENE):
            move = view(scene, number / (FRAMES_PER_SCENE - 1), rng)
            seen = (_look(picture, move) for picture in (day, night))
            by_day, at_night = next(seen), next(seen)
            recorded = record(at_night, camera, rng, bayer=True)
            placed = cv2.transform(outlines.reshape(1, -1, 2), move).reshape(-1, 4, 2) / SCALE
            yield ClipFrame(scene, _to_bytes(by_day), _to_bytes(recorded), texts, placed)


def _look(linear: Floats, move: npt.NDArray[np.float64]) -> Floats:
    canvas = cv2.warpAffine(linear, move, (WIDTH * SCALE, HEIGHT * SCALE), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def _to_bytes(linear: Floats) -> Bytes:
    return np.round(to_srgb(linear) * 255).astype(np.uint8)


def encode(frames: list[Bytes], path: Path, crf: int) -> None:
    """Write RGB frames as H.264, 4:2:0, BT.709, limited range; crf 0 is lossless after the colour conversion."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryslow", "tune": "grain", "threads": "1"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # limited
        for rgb in frames:
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            yuv = picture.reformat(
                format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
            container.mux(stream.encode(yuv))
        container.mux(stream.encode())


def describe(frames: list[ClipFrame], seed: int, crf: int) -> dict[str, Any]:
    """What goes into night.json."""
    return {
        "schema": 1,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": FPS,
        "made_by": "deploy/demo/make_clip.py",
        "seed": seed,
        "noise": {"camera": CAMERA, **asdict(CAMERAS[CAMERA]), "log_gain": LOG_GAIN},
        "encoder": {"codec": "libx264", "crf": crf, "pixels": "yuv420p, BT.709, limited range"},
        "photographs": {
            name: {key: value for key, value in asdict(photograph).items() if key != "path"}
            | {"changes": "cropped, signs added, darkened"}
            for name, photograph in PHOTOGRAPHS.items()
        },
        "frames": [
            {
                "frame": index,
                "scene": frame.scene.name,
                "darkness": frame.scene.darkness,
                "regions": [
                    {"text": text, "polygon": [[round(float(x), 1), round(float(y), 1)] for x, y in outline]}
                    for text, outline in zip(frame.texts, frame.outlines, strict=True)
                ],
            }
            for index, frame in enumerate(frames)
        ],
    }


def luma(path: Path) -> Bytes:
    """The Y planes of a clip, (frames, H, W)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)])


def check(frames: list[ClipFrame], clip: Path, truth: Sequence[FrameTruth]) -> None:
    """Print how well the clip keeps the noise, and how much of the text is found by day and at night."""
    with TemporaryDirectory() as folder:
        lossless = Path(folder) / "lossless.mp4"
        encode([frame.night for frame in frames], lossless, crf=0)
        exact, kept = luma(lossless).astype(np.float64), luma(clip).astype(np.float64)
    error = float(np.mean((exact - kept) ** 2))
    print(f"luma against lossless 4:2:0: PSNR {10 * np.log10(255**2 / max(error, 1e-9)):.1f} dB")
    grain = [float(np.diff(plane, axis=2).std() / np.sqrt(2)) for plane in (exact, kept)]
    print(f"standard deviation of neighbouring pixels: {grain[0]:.2f} lossless, {grain[1]:.2f} in the clip")
    detector = create_detector()
    pictures = {"day": [frame.day for frame in frames], "night": decode(clip)}
    print(f"mean level at night: {', '.join(f'{p.mean():.0f}' for p in pictures['night'][::FRAMES_PER_SCENE])}")
    for name, shown in pictures.items():
        there = found = matched = 0
        for picture, true in zip(shown, truth, strict=True):
            regions = detector.detect(picture)
            there, found = there + len(true.outlines), found + len(regions)
            matched += len(match(regions, true.outlines))
        print(
            f"{name}: {matched} of {there} found, recall {matched / there:.3f}, precision {matched / max(1, found):.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for night.mp4 and night.json")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--crf", type=int, default=18, help="0 (lossless) to 51")
    parser.add_argument("--check", action="store_true", help="detect the text by day and at night, and report")
    args = parser.parse_args()
    frames = list(make_frames(args.seed))
    args.output.mkdir(parents=True, exist_ok=True)
    clip, truth = args.output / CLIP.name, args.output / TRUTH.name
    encode([frame.night for frame in frames], clip, args.crf)
    described = json.dumps(describe(frames, args.seed, args.crf), indent=None, separators=(",", ":"))
    truth.write_text(described.replace('{"frame"', '\n{"frame"') + "\n", encoding="utf-8")
    print(f"{clip}: {len(frames)} frames, {clip.stat().st_size:,} bytes; {truth}: {truth.stat().st_size:,} bytes")
    if args.check:
        check(frames, clip, load_truth(truth))


if __name__ == "__main__":
    main()
