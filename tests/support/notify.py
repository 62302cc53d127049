"""The service manager's end of sd_notify: a real datagram socket."""

import socket
import threading
from pathlib import Path


class NotifySocket:
    """Collects what is sent to it, as (name, value); `environ` is what systemd would set."""

    def __init__(self, path: Path | str, watchdog_s: float = 0.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path) if str(path)[0] != "@" else "\0" + str(path)[1:])
        self.environ = {"NOTIFY_SOCKET": str(path)}
        if watchdog_s:
            self.environ["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        self.fields: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while data := self._socket.recv(65536):
            self.fields += [tuple(line.split("=", 1)) for line in data.decode().splitlines()]

    def count(self, name: str, value: str = "1") -> int:
        return self.fields.count((name, value))

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def close(self) -> None:
        """Everything sent before is collected."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
