"""A command that is run for each alert. What was read reaches it as data: in its environment and on its input."""

import asyncio
import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
from typing import Final

from common.errors import SettingsError
from common.printable import printable
from common.settings import PREFIX
from edge_node.sinks.outlet import Message, NotDelivered

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
OUTPUT_BYTES: Final = 4096  # that are logged; more is read and forgotten


class Command:
    """Runs a program, without a shell, in a process group of its own that ends with it or after `timeout_s`.

    It gets the alert as JSON on its input, and LAMPLIGHT_ALERT, _TEXT, _CONFIDENCE, _EDGE, _NAME and _ID in its
    environment; settings of the node are taken out of that, as they may hold secrets. It succeeds with exit code 0.

    Raises:
        SettingsError: there is no such program.
    """

    def __init__(self, line: str, timeout_s: float) -> None:
        try:
            self._words = shlex.split(line)
        except ValueError as error:
            raise SettingsError(f"--alert-command: {error}") from None
        program = shutil.which(self._words[0]) if self._words else None
        if program is None:
            named = self._words[0] if self._words else line
            raise SettingsError(f"--alert-command: there is no program {named!r} that can be run")
        self._program, self._timeout_s = program, timeout_s
        self.where = f"command {os.path.basename(program)}"

    async def open(self) -> None:
        """Nothing is to be done before the first alert."""

    async def send(self, message: Message) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        output = bytearray()
        loop = asyncio.get_running_loop()
        loop.add_reader(reading, _read, reading, output)
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._words,
                    executable=self._program,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=writing,
                    stderr=asyncio.subprocess.STDOUT,
                    env=environment(message),
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise NotDelivered(f"cannot be run: {error}") from None
            finally:
                os.close(writing)
            await self._wait(process, message)
        finally:
            _read(reading, output)
            loop.remove_reader(reading)
            os.close(reading)
            for line in output[:OUTPUT_BYTES].decode(errors="replace").splitlines():
                log.warning("%s: %s", self.where, printable(line))
        if process.returncode:
            raise NotDelivered(f"it ends with code {process.returncode}")

    async def close(self) -> None:
        """What still runs was ended with its worker."""

    async def probe(self) -> str:
        return "can be run"  # looked for when it was made

    async def _wait(self, process: asyncio.subprocess.Process, message: Message) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                assert process.stdin is not None
                with contextlib.suppress(OSError):  # it need not read
                    process.stdin.write(message.body)
                    await process.stdin.drain()
                process.stdin.close()
                await process.wait()
        except TimeoutError:
            raise NotDelivered(f"it took longer than {self._timeout_s:g} s and was ended") from None
        finally:
            with contextlib.suppress(OSError):  # also what it left behind
                os.killpg(process.pid, signal.SIGKILL)
            if process.returncode is None:
                await process.wait()


def environment(message: Message) -> dict[str, str]:
    """The environment of the command: ours, without our settings, and what it needs to know."""
    told = json.loads(message.body)
    about = {
        "ALERT": told["alert"],
        "TEXT": told["text"],
        "CONFIDENCE": told["confidence"],
        "EDGE": told["sight"]["edge"],
        "NAME": told["sight"]["name"],
        "ID": told["id"],
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return kept | {PREFIX + name: _value(value) for name, value in about.items()}


def _value(value: object) -> str:
    """Without what no environment can hold: a NUL, and lone surrogates."""
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()


def _read(descriptor: int, output: bytearray) -> None:
    try:
        while chunk := os.read(descriptor, 65536):
            output.extend(chunk[: max(0, OUTPUT_BYTES - len(output))])
    except BlockingIOError:
        return
    asyncio.get_running_loop().remove_reader(descriptor)  # its end: it would be readable for ever
