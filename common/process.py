"""What both commands share: logs, signals, and errors that end a process."""

import asyncio
import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from common import logs
from common.errors import LamplightError

log = logging.getLogger(__name__)


def run(command: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code; an error of ours is one line and its own code."""
    raise_file_limit()
    code: int | str | None = 1  # of an error that nobody expected

    def leave() -> None:
        """A daemon thread inside a compiler cannot be stopped, and aborts the process when the interpreter goes."""
        if any(thread.daemon for thread in threading.enumerate()):
            with suppress(OSError, ValueError):
                logging.shutdown()  # its own hook comes after this one, or never
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code if isinstance(code, int) else code is not None)

    atexit.register(leave)  # what registers from here on is called before it; what did at import (logging) after it
    try:
        _end(command)
    except SystemExit as ending:
        code = ending.code
        raise


def _end(command: Callable[[], int]) -> NoReturn:
    try:
        sys.exit(command())
    except LamplightError as error:
        if logs.is_json():
            log.error("%s", error)
        else:
            print(f"lamplight: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def raise_file_limit() -> None:
    """As many file handles as this process may have: the usual 1,024 are few connections."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a bound of its own, below "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def configure_logging(verbose: bool, json_service: str = "") -> None:
    """Warnings and our own news to stderr; every step with `verbose`; JSON lines for a service that is named."""
    logs.configure(verbose, json_service)


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets `stop`, to end in good order; the second ends the process at once."""
    loop = asyncio.get_running_loop()

    def handle() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def on_hangup(action: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Each SIGHUP runs `action`, one after the other; where there is no such signal, nothing does."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    async def act() -> None:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await action()
            except Exception:  # the next signal may do better
                log.exception("what SIGHUP asked for failed")

    task = asyncio.create_task(act(), name="hangup")
    loop.add_signal_handler(number, asked.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
        task.cancel()
