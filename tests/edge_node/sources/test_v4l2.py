"""Cameras through FFmpeg's own V4L2 input, with a camera made of a FIFO: machines that run tests have none.

The kernel's part is played by `tests/support/v4l2_camera.c`, built against the kernel's header.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import Process

from edge_node.sources.v4l2 import Mode, choose

SOURCE = Path(__file__).resolve().parents[2] / "support" / "v4l2_camera.c"
HEADER = Path("/usr/include/linux/videodev2.h")
ONLY_HERE = pytest.mark.skipif(
    sys.platform != "linux" or not HEADER.exists() or shutil.which("cc") is None,
    reason="the camera needs Linux, a C compiler and the kernel's headers",
)

WATCH = """
import json, logging, sys
from common.backoff import Backoff
from edge_node.sources.camera import list_cameras, open_camera
from edge_node.sources.options import LiveOptions
logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
path, size, fps, wanted, frozen_s = json.loads(sys.argv[1])
options = LiveOptions(frozen_s=frozen_s, camera_format=wanted)
camera = open_camera(path, size and tuple(size), options, fps=fps, backoff=Backoff(0.05, 0.1))
print("opened", flush=True)
for captured in camera.frames():
    image, status = captured.image, camera.status
    print("frame", image.width, image.height, image.pixel_format.name, "broken", status.broken, "dropped",
          status.dropped, "frozen", status.frozen, "reopened", status.reopened, flush=True)
"""


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    library = tmp_path_factory.mktemp("v4l2") / "camera.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


class Camera:
    """A camera whose pictures the test decides; by default it sends whole ones, 50 a second."""

    def __init__(self, folder: Path) -> None:
        self.path, self.picture = folder / "video97", b"f"
        self._stop = threading.Event()
        self.plug()
        x, y = np.meshgrid(np.arange(1280), np.arange(720))
        content = io.BytesIO()
        Image.fromarray(((x * 3 + y * 5) % 160).astype(np.uint8)).convert("RGB").save(content, "JPEG", subsampling=1)
        self.path.with_name("video97.jpg").write_bytes(content.getvalue())
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def plug(self) -> None:
        os.mkfifo(self.path)
        self._file = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def unplug(self) -> None:
        self.path.unlink()
        os.write(self._file, b"u")

    def busy(self, on: bool) -> None:
        mark = self.path.with_name("video97.busy")
        mark.touch() if on else mark.unlink()

    def _send(self) -> None:
        waiting = 0
        while not self._stop.wait(0.02):
            try:
                waiting = len(self.picture) and os.write(self._file, self.picture)
            except BlockingIOError:
                waiting += 1

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._file)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    made = Camera(tmp_path)
    yield made
    made.end()


@pytest.fixture
def watch(camera: Camera, preload: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Start a process that opens the camera and prints its frames and its log."""
    started: list[Process] = []

    def start(size: tuple[int, int] | None = None, fps: float = 5, wanted: str = "", frozen_s: float = 10) -> Process:
        given = json.dumps([str(camera.path), size, fps, wanted, frozen_s])
        started.append(Process("-c", WATCH, given, env=preload))
        return started[-1]

    yield start
    for process in started:
        process.end()


@ONLY_HERE
@pytest.mark.parametrize(
    ("size", "fps", "expected"),
    [
        (None, 5, "640 480 YUYV"),  # as it is set
        ((1280, 720), 25, "1280 720 I422"),  # only MJPEG is fast enough
    ],
)
def test_the_least_compressed_format_that_is_fast_enough(watch, size, fps: float, expected: str) -> None:
    assert watch(size, fps).wait_for(r"frame (\d+ \d+ \w+)").group(1) == expected


@ONLY_HERE
def test_a_size_that_it_has_not(watch) -> None:
    process = watch((700, 500))
    process.wait_for("has no 700x500: it gives 640x480")
    process.wait_for("frame 640 480 YUYV")


@ONLY_HERE
def test_a_format_that_is_asked_for(watch) -> None:
    watch((1280, 720), 5, "mjpeg").wait_for("frame 1280 720 I422")  # without it YUYV, see `test_choose`


@ONLY_HERE
def test_unplugged_busy_and_back(watch, camera: Camera) -> None:
    process = watch()
    process.wait_for("frame")
    camera.unplug()
    process.wait_for("log: .*broke off: No such device; opening it again")
    process.wait_for(f"log: there is no camera {camera.path}")
    camera.busy(True)
    camera.plug()
    process.wait_for("log: .*is used by another program: close that first")
    camera.busy(False)
    process.wait_for("log: .*gives pictures again")
    process.wait_for("frame 640 480 YUYV broken 0 .* reopened 1")
    assert process.output.count("there is no camera") == 1


@ONLY_HERE
def test_busy_at_the_start(watch, camera: Camera) -> None:
    camera.busy(True)
    process = watch()
    process.wait_for("SourceError: camera .* is used by another program: close that first")


@ONLY_HERE
def test_broken_jpegs_and_buffers_are_left_out(watch, camera: Camera) -> None:
    process = watch((1280, 720), 25)
    process.wait_for("frame 1280 720 I422 broken 0")
    camera.picture = b"cef"
    assert process.wait_for(r"frame 1280 720 I422 broken [3-9].* reopened (\d+)").group(1) == "0"


@ONLY_HERE
def test_a_silent_driver_is_opened_again(watch, camera: Camera) -> None:
    """Its read would block for ever: nothing but a look before each read notices."""
    process = watch(frozen_s=1)
    process.wait_for("frame")
    camera.picture = b""
    process.wait_for("log: .*has given no new picture for 1 s; opening it again")
    camera.picture = b"f"
    process.wait_for(r"frame .* frozen [1-9]\d* reopened [1-9]")


@ONLY_HERE
def test_the_list_of_cameras(camera: Camera, preload: dict[str, str]) -> None:
    script = "import sys; from pathlib import Path; from edge_node.sources.camera import list_cameras; "
    script += "print(*list_cameras(Path(sys.argv[1]))[0], sep='\\n')"
    (camera.path.parent / "video98").write_bytes(b"")
    process = Process("-c", script, str(camera.path.parent), env=preload)
    assert process.wait() == 0
    process.wait_for(".*/video97  Night Camera .fifo.: --camera 97")
    process.wait_for(r"    yuyv422  640x480 30 fps, 1280x720 10 fps, 1920x1080 2 fps  \(asked for by default\)")
    process.wait_for("    mjpeg    640x480 30 fps, 1280x720 30 fps, 1920x1080 30 fps$")
    process.wait_for("    Z16      640x480 30 fps$")
    process.wait_for(".*/video98  without a name: is no camera")


MODES = (
    Mode("mjpeg", 640, 480, 30), Mode("yuyv422", 640, 480, 30), Mode("nv12", 640, 480, 0),
    Mode("mjpeg", 1920, 1080, 30), Mode("yuyv422", 1920, 1080, 2), Mode("Z16", 1280, 720, 90),
)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "fps", "expected"),
    [
        ((640, 480), 5, ("nv12", 640)),  # a rate that is not told is fast enough
        ((1920, 1080), 5, ("mjpeg", 1920)),
        ((1920, 1080), 1, ("yuyv422", 1920)),
        ((1920, 1080), 60, ("mjpeg", 1920)),  # none is: the fastest
        ((1280, 720), 5, ("nv12", 640)),  # only the depth of that size: the nearest
        (None, 5, ("nv12", 640)),
    ],
)
def test_choose(size: tuple[int, int] | None, fps: float, expected: tuple[str, int]) -> None:
    mode = choose(MODES, size, fps)
    assert mode is not None and (mode.format, mode.width) == expected
    assert choose(MODES[5:], size, fps) is None
