"""A real MQTT broker as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = "import sys; sys.argv = ['amqtt', '-c', sys.argv[1]]; from amqtt.scripts.broker_script import main; main()"
CONFIG = """
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
{tls}
plugins:
{plugins}
"""


class Broker:
    """Listens on loopback from `start` on; killed, it forgets everything."""

    def __init__(
        self, folder: Path, port: int, password: str = "", certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.port, self._config = port, folder / "broker.yaml"
        plugins = "  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true"
        if password:
            from pwdlib import PasswordHash
            from pwdlib.hashers.argon2 import Argon2Hasher

            hashed = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)]).hash(password)
            file = folder / "passwords"
            file.write_text(f"edge:{hashed}\n")
            plugins = f"  amqtt.plugins.authentication.FileAuthPlugin:\n    password_file: {file}"
        tls = f"    ssl: on\n    certfile: {certificate[0]}\n    keyfile: {certificate[1]}" if certificate else ""
        self._config.write_text(CONFIG.format(port=port, plugins=plugins, tls=tls))
        self._log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        with self._log.open("ab") as log:
            command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        deadline_s = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline_s, self._log.read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
