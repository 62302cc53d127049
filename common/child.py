"""Run a command that ends when the process that started it ends, however that happens, kill -9 included.

    python -m common.child --parent PID COMMAND [ARGUMENT ...]

On Linux the command takes this process's place (same PID) and the kernel signals it. The kernel ties that signal to
the *thread* that started the child, so start it from a thread that lives as long as the process: the main thread.
Elsewhere this process stays as a guard: the starter holds the write end of its standard input and never writes.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
GRACE_S = 5.0


def exec_tied(parent: int, command: list[str]) -> None:
    """Linux: become `command`, to be terminated when the starting thread ends. Returns only by raising OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(command[0], command)


def guard(command: list[str]) -> int:
    """Anywhere: run `command` until it ends or standard input closes; returns its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def end_with_parent() -> None:
        while os.read(0, 1024):
            pass
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end_with_parent, daemon=True).start()
    return child.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m common.child", description=__doc__.splitlines()[0])
    parser.add_argument("--parent", type=int, required=True, help="PID of the process that starts this one")
    parser.add_argument("--guard", action="store_true", help="stay as a guard, on Linux too")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("name a command to run")
    if sys.platform == "linux" and not options.guard:
        exec_tied(options.parent, options.command)
    return guard(options.command)


if __name__ == "__main__":
    sys.exit(main())
