"""A machine of its own on which the commands of the pages run as they are written.

    with World(folder) as world:
        world.start("python -m edge_node --camera 0", desk="desk")

It has a network namespace and a root file system that nobody else sees (other_root.sh), so that default ports, /etc and
names such as gpu-box are free; camera 0 and 1, which see a dark sign; a cloud node at the default address, one for
enrolled edges at gpu-box; NATS, MQTT and a webhook's receiver at hub and example.com. `photos/`, `night.mp4` and what
else the pages name lies on each desk. Needs Linux, root, overlayfs, a C compiler, openssl, jq.
"""

import fcntl
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from processes import ROOT, dark_sign

from common.nats_server import find_server

HERE = Path(__file__).parent
OURS = (
    *("benchmarks", "cloud_node", "common", "deploy", "docs", "edge_node", "proto", "tests"),
    *("Makefile", "constraints.txt", "pyproject.toml", ".nats"),
)
PREPARED = "/desk/prepared"
CAMERA = (640, 480)
TIMEOUT_S = 180
PLAIN = "-m cloud_node --preset none --device cpu --threads 1"
SECURED = f"{PLAIN} --host 127.0.0.3 --identity authority/node"
ENROLL = "python -m cloud_node enroll"
NAMES = "--name gpu-box --name gpu-1 --name gpu-2 --name 127.0.0.3 --cloud gpu-box"


class NotPossible(Exception):
    """This machine cannot make another; says why."""


class World:
    """Everything ends with the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[Any]] = []
        self._over = threading.Event()
        for tool in ("unshare", "nsenter", "setpriv", "ip", "cc", "openssl", "jq"):
            if shutil.which(tool) is None:
                raise NotPossible(f"there is no {tool} here")
        command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", str(HERE / "other_root.sh")]
        pipe = subprocess.PIPE
        self._holder = subprocess.Popen([*command, str(folder)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise NotPossible(self._holder.communicate()[1].strip() or "no namespaces can be made")
        try:
            self._has_python()
        except BaseException:
            self.close()
            raise
        # Its files, seen from here. Do not write where a symbolic link leads: that is here, not there.
        self.root = Path(f"/proc/{self._holder.pid}/root{folder}/root")
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("LAMPLIGHT_", "OTEL_"))},
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "SSL_CERT_FILE": "/etc/hub.pem",
        }

    def _has_python(self) -> None:
        """Its root is an overlay over the root's file system alone: what is mounted elsewhere is not in it."""
        inside = ["nsenter", "--mount", "--target", str(self._holder.pid), "chroot", f"{self._folder}/root"]
        probe = [sys.executable, "-c", f"import sys; open({str(Path(__file__).resolve())!r})"]
        ran = subprocess.run([*inside, *probe], capture_output=True, text=True)
        if ran.returncode:
            last = (ran.stderr.strip().splitlines() or [f"{ran.returncode}"])[-1]
            raise NotPossible(f"{sys.executable} or {ROOT} is not on the root's file system: {last}")

    def __enter__(self) -> "World":
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._over.set()
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._holder.communicate()  # it ends with its stdin

    def desk(self, name: str, without: tuple[str, ...] = ()) -> Path:
        """A folder to work in, with all that the pages name; its path from here."""
        made = self.root / "desk" / name
        if made.exists():  # of a try before
            shutil.rmtree(made)
        shutil.copytree(self.root / PREPARED[1:], made, symlinks=True)
        for each in without:
            shutil.rmtree(made / each) if (made / each).is_dir() else (made / each).unlink(missing_ok=True)
        return made

    def start(
        self, command: str, desk: str, env: dict[str, str] | None = None, *, alone: bool = False, **options: Any
    ) -> "subprocess.Popen[Any]":
        """Start what a shell understands on a desk; `alone`: with a loopback of its own."""
        prefix = ["nsenter", "--net", "--mount", "--target", str(self._holder.pid)]
        prefix += ["chroot", f"{self._folder}/root", "setpriv", "--pdeathsig", "KILL"]
        prefix += ["env", "-C", f"/desk/{desk}", *(f"{name}={value}" for name, value in (env or {}).items())]
        if alone:
            prefix += ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        shell = ["bash", "-o", "pipefail", "-c", command]
        return subprocess.Popen([*prefix, *shell], env=self._env, **options)

    def run(self, command: str, desk: str = "prepared", env: dict[str, str] | None = None) -> None:
        """Run a command to its end; raises AssertionError with what it said."""
        pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with self.start(command, desk, env, **pipe) as process:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, f"{command}: {process.returncode}\n{said}"

    def _serve(self, *commands: str) -> None:
        """Start servers, wait until their logs say that they are ready."""
        logs = []
        for command in commands:
            logs.append(self.root / "var" / "log" / f"{len(self._processes)}.log")
            with logs[-1].open("wb") as output:
                self._processes.append(self.start(f"exec {command}", "prepared", stdout=output, stderr=output))
        deadline_s = time.monotonic() + TIMEOUT_S
        for log, process in zip(logs, self._processes, strict=True):
            while not re.search(r"\bready\b", log.read_text(errors="replace")):
                assert process.poll() is None and time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.02)

    def _prepare(self) -> None:
        prepared = self.root / PREPARED[1:]
        prepared.mkdir(parents=True)
        for name in OURS:
            (prepared / name).symlink_to(ROOT / name)
        (prepared / ".venv").symlink_to(sys.prefix)
        self.run("touch .venv/.installed; [ ! -e .nats/path ] || touch .nats/path")  # what `make install` leaves
        self._pictures(prepared)
        (prepared / "words.txt").write_text("exit\nno parking\n")
        policy = (ROOT / "docs" / "policies.md").read_text().split("```toml\n")[1].split("```")[0]
        (prepared / "policy.toml").write_text(policy)
        notify = self.root / "usr" / "local" / "bin" / "notify-send"
        notify.write_text("#!/bin/sh\ncat > /dev/null\n")
        notify.chmod(0o755)
        self._camera(prepared)

        certificate = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hub"
        names = "-addext subjectAltName=DNS:hub,DNS:example.com -keyout /etc/hub.key -out /etc/hub.pem"
        self.run(f"{certificate} {names}")
        self.run(f"{ENROLL} --init {NAMES} && {ENROLL} edge-17 && {ENROLL} edge-1")
        settings = self.root / "etc" / "lamplight"
        settings.mkdir()
        shutil.copy(ROOT / "deploy" / "systemd" / "edge.toml", settings)
        shutil.copy(prepared / "edge-17.bundle", settings / "edge.bundle")

        self._serve(
            f"{find_server()} --addr 127.0.0.1 --user name --pass password",
            f"python {HERE / 'hub.py'} /etc/hub.pem /etc/hub.key",
            f"python {PLAIN}",
            f"python {SECURED}",
        )
        self.run("python -m edge_node --source night.mp4 --priority essential --detector-threads 1")

    def _pictures(self, desk: Path) -> None:
        signs = [dark_sign(text, (320, 240)) for text in ("EXIT 12", "NO PARKING")]
        signs[0].save(desk / "dark.jpg")
        for folder in ("photos", "night-photos", "night", "LOW", "NORMAL"):
            (desk / folder).mkdir()
            for number, sign in enumerate(signs):
                seen = sign.point(lambda level: 12 * level) if folder == "NORMAL" else sign  # by day
                seen.save(desk / folder / f"{folder}-{number}.jpg", quality=95)
        with av.open(str(desk / "night.mp4"), "w") as video:
            stream = video.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for sign in signs:
                video.mux(stream.encode(av.VideoFrame.from_image(sign)))
            video.mux(stream.encode())

    def _camera(self, desk: Path) -> None:
        """Cameras 0 and 1, ten pictures a second."""
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", str(self.root / "usr/lib/camera.so"), str(HERE / "v4l2_camera.c"), "-ldl"],
            check=True,
        )
        sign = av.VideoFrame.from_image(dark_sign("EXIT", CAMERA)).reformat(format="yuyv422")
        picture = bytes(sign.planes[0])
        assert len(picture) == 2 * CAMERA[0] * CAMERA[1]
        files = []
        for number in range(2):
            camera = self.root / "dev" / f"video{number}"
            camera.with_name(f"{camera.name}.yuyv").write_bytes(picture)
            files.append(os.open(camera, os.O_RDWR | os.O_NONBLOCK))

        def feed() -> None:
            while not self._over.wait(0.1):
                for file in files:
                    waiting = struct.unpack("i", fcntl.ioctl(file, termios.FIONREAD, b"\0" * 4))[0]
                    if waiting < 2:  # nobody looks
                        os.write(file, b"f")
            for file in files:
                os.close(file)

        threading.Thread(target=feed, daemon=True).start()
