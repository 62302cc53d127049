"""GStreamer's RTSP server as a process that can be stopped, killed and started again."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GSTREAMER = ROOT / ".gstreamer"
MISSING = "no GStreamer: sh deploy/get-gstreamer.sh unpacks it from Debian's packages"
CAPS = "video/x-raw,format=I420,width={},height={},framerate=25/1"
LAUNCH = f"( videotestsrc is-live=true pattern={{}} ! {CAPS} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"


class RtspServer:
    """Serves a made-up picture as MJPEG at /live of a free port, or of the port that another had.

    Args:
        pattern: of GStreamer's videotestsrc; "ball" moves, "smpte75" never changes.
        login: "name:password" that it asks for.
    """

    def __init__(
        self, port: int = 0, *, size: tuple[int, int] = (160, 120), pattern: str = "ball", login: str = ""
    ) -> None:
        arguments = [str(GSTREAMER), LAUNCH.format(pattern, *size), str(port), *filter(None, login.split(":"))]
        env = {
            **os.environ,
            "LD_LIBRARY_PATH": str(GSTREAMER),
            "GST_PLUGIN_SYSTEM_PATH": str(GSTREAMER / "plugins"),
            "GST_PLUGIN_PATH": "",
            "GST_REGISTRY": str(GSTREAMER / "registry.bin"),
            "GST_REGISTRY_FORK": "no",
        }
        script = str(ROOT / "tests/support/rtsp_server.py")
        self.process = subprocess.Popen(
            [sys.executable, script, *arguments], env=env, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def url(self, login: str = "", path: str = "live") -> str:
        return f"rtsp://{login + '@' if login else ''}127.0.0.1:{self.port}/{path}"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
