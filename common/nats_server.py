"""A nats-server of our own, as a child process: for one-machine use, demos and tests."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nats.errors
from nats.aio.client import Client

from common import child
from common.backoff import Backoff
from common.errors import BrokerUnavailable
from common.nats_connection import Login, SecureClient, close_client
from common.tasks import end_tasks

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024  # nats-server warns above this
OURS = re.compile(r"LAMPLIGHT_|OTEL_|NATS_|.*(SECRET|TOKEN|PASSWORD|CREDENTIAL|PRIVATE|_KEY)", re.IGNORECASE)
LIMITS = {  # of a server; the second and third of each connection
    "max_connections": 8_192,
    "max_subscriptions": 4_096,
    "max_pending": 64 * 1024 * 1024,
}
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
RESTART_DELAY_S = 0.5
LONGEST_RESTART_DELAY_S = 10.0
RUN_PREFIX = "lamplight-nats-"
LOCK_NAME = "lamplight.lock"
HOST = "127.0.0.1"
EDGE_MAY_PUBLISH = ["$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.INFO.>", "$JS.ACK.>"]


def find_server() -> Path:
    """The nats-server to run: LAMPLIGHT_NATS_SERVER, what deploy/get-nats-server.sh found or fetched, or one on PATH.

    Raises:
        BrokerUnavailable: there is none.
    """
    if named := os.environ.get("LAMPLIGHT_NATS_SERVER"):
        if os.access(named, os.X_OK):
            return Path(named)
        raise BrokerUnavailable(f"LAMPLIGHT_NATS_SERVER={named} is not a program that can be run")
    folder = Path(__file__).resolve().parent.parent / ".nats"
    noted = folder / "path"  # written by make: what that script printed
    found = noted.read_text().strip() if noted.is_file() else None
    for candidate in (found, folder / "nats-server", shutil.which("nats-server")):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise BrokerUnavailable("no nats-server found: run deploy/get-nats-server.sh or pass --nats URL")


@dataclass(frozen=True, slots=True, repr=False)
class Secured:
    """TLS, and logins that an authority signed, instead of passwords."""

    settings: Callable[[Path], dict[str, Any]]  # of nats-server, which may keep what it is told in this folder
    login: Callable[[], Login]
    host: str  # to listen on
    port: int  # 0 = a free one
    name: str  # by which edges reach it


class EmbeddedServer:
    """A nats-server with JetStream that ends with this process, kill -9 included, and is restarted if it dies.

    Start it from the main thread: on Linux the server is tied to the thread that started it (see common/child.py).
    It listens on loopback, where only who knows the random password, part of the URLs, can connect; or, secured, where
    it is told to.
    """

    def __init__(self, secured: Secured | None = None) -> None:
        self._passwords = {user: secrets.token_urlsafe(24) for user in ("node", "edge")}
        self._secured = secured
        self._port = secured.port if secured else 0
        self._run_dir: Path | None = None
        self._lock: IO[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start on a free port, after a `stop` on the one before, and wait until JetStream answers.

        Raises:
            BrokerUnavailable: there is no nats-server, or it does not start.
        """
        if self._process is not None:
            raise RuntimeError("the server is started already")
        program = find_server()
        _remove_leftovers()
        self._run_dir = Path(tempfile.mkdtemp(prefix=RUN_PREFIX))
        self._lock = _try_lock(self._run_dir / LOCK_NAME)
        try:
            await self._launch(program)
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_running(program), name="nats-server")

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int | None:
        """PID of the server (of its guard outside Linux), or None when it does not run."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def url(self) -> str:
        """For a cloud node on this machine: everything is allowed."""
        return self._url("node")

    def edge_url(self) -> str:
        """For edges: they may fetch and acknowledge, no more."""
        return f"tls://{self._secured.name}:{self._port}" if self._secured else self._url("edge")

    def reload(self) -> None:
        """Its certificate is another one now: new connections get it."""
        if sys.platform != "linux":  # its guard would take the signal
            log.warning("nats-server shows its new certificate after the next start")
        elif self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End the server and remove its results. Safe to call twice."""
        if self._watch is not None:
            await end_tasks([self._watch])
            self._watch = None
        if self._process is not None:
            await _end(self._process)
            self._process = None
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            self._run_dir = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _url(self, user: str) -> str:
        if self._secured:
            everywhere = self._secured.host in ("0.0.0.0", "::", "localhost")
            return f"tls://{HOST if everywhere else _bracketed(self._secured.host)}:{self._port}"
        return f"nats://{user}:{self._passwords[user]}@{HOST}:{self._port}"

    async def _launch(self, program: Path) -> None:
        assert self._run_dir is not None
        for stale in self._run_dir.glob("*.ports"):
            stale.unlink()
        config = self._run_dir / "server.conf"
        config.touch(mode=0o600)
        config.write_text(self._config())
        log_path = self._run_dir / "server.log"
        shim = [sys.executable, "-I", child.__file__, "--parent", str(os.getpid())]
        with log_path.open("wb") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                *shim,
                str(program),
                "--config",
                str(config),
                stdin=subprocess.PIPE,  # its end tells the guard that we are gone
                stdout=log_file,
                stderr=log_file,
                env=_without_secrets(os.environ),
                start_new_session=True,  # Ctrl-C is for the node, which drains before it stops the server
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await self._ready():
            if self._process.returncode is not None or time.monotonic() > deadline:
                await _end(self._process)
                tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-8:])
                raise BrokerUnavailable(f"{program} did not start; its last words:\n{tail or '(none)'}")
            await asyncio.sleep(0.02)

    def _config(self) -> str:
        assert self._run_dir is not None
        common = {  # nats-server reads JSON as its own format
            "server_name": self._run_dir.name,
            "host": self._secured.host if self._secured else HOST,
            "port": self._port or -1,
            "ports_file_dir": str(self._run_dir),
            "max_payload": MAX_PAYLOAD_BYTES,
            **LIMITS,
            "jetstream": {"store_dir": str(self._run_dir / "store")},
        }
        if self._secured:
            return json.dumps({**common, **self._secured.settings(self._run_dir / "accounts")}, indent=1)
        edge = {
            "publish": {"allow": EDGE_MAY_PUBLISH},
            "subscribe": {"allow": ["_INBOX.>"]},
        }
        users = [
            {"user": "node", "password": self._passwords["node"]},
            {"user": "edge", "password": self._passwords["edge"], "permissions": edge},
        ]
        return json.dumps({**common, "authorization": {"users": users}}, indent=1)

    async def _ready(self) -> bool:
        assert self._run_dir is not None
        for ports in self._run_dir.glob("*.ports"):
            with contextlib.suppress(ValueError, LookupError):
                self._port = int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])
                return await _answers(self.url, self._secured.login() if self._secured else None)
        return False

    async def _keep_running(self, program: Path) -> None:
        backoff = Backoff(RESTART_DELAY_S, LONGEST_RESTART_DELAY_S)
        while self._process is not None:
            status = await self._process.wait()
            log.error("nats-server ended by itself (%s), starting it again on port %d", status, self._port)
            while True:
                await asyncio.sleep(backoff.next_s())
                try:
                    await self._launch(program)
                    backoff.reset()
                    break
                except (BrokerUnavailable, OSError) as error:
                    log.error("%s", error)


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What a program that knows nothing of us may see of our environment."""
    return {name: value for name, value in environment.items() if not OURS.match(name)}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _answers(url: str, login: Login | None) -> bool:
    async def quiet(_: Exception) -> None:
        pass

    client, more = SecureClient() if login else Client(), login.options() if login else {}
    once = {"allow_reconnect": False, "connect_timeout": 2, "max_reconnect_attempts": 1}
    try:
        await client.connect(url, error_cb=quiet, **once, **more)
        await client.jetstream(timeout=1).account_info()
    except (nats.errors.Error, OSError, TimeoutError):
        return False
    finally:
        await close_client(client)
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)


def _try_lock(path: Path) -> IO[str] | None:
    """Take the file's lock, which the kernel gives back when this process ends; None if another has it.

    Raises OSError; a link is not followed, and a pipe holds nobody up.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = open(os.open(path, flags, 0o600), "w")
    try:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise OSError(f"{path} is no plain file")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def _remove_leftovers(older_than_s: float = 60.0) -> None:
    """Remove temporary folders of nodes that died without cleaning up. Those of living nodes are locked.

    Only our own: what others put there is theirs.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{RUN_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if time.time() - found.st_mtime < older_than_s:
                continue  # perhaps just being made, not locked yet
            if lock := _try_lock(folder / LOCK_NAME):
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()
