"""How commands end."""

import subprocess
import sys

import pytest

BUSY = """
import atexit, sys, threading, time
from common import process
from common.errors import SourceError

def command():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    atexit.register(print, "tidied")
    {end}

process.run(command)
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("return 0", 0, ""),
        ("return 3", 3, ""),
        ("raise SourceError('no camera')", 3, "lamplight: no camera\n"),
        ("sys.exit('no')", 1, "no\n"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_a_thread_that_is_left_changes_nothing(end: str, code: int, said: str) -> None:
    ended = subprocess.run([sys.executable, "-c", BUSY.format(end=end)], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "tidied\n", said)


def test_an_error_that_nobody_expected() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BUSY.format(end="1 / 0")], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1 and ended.stdout == "tidied\n" and "ZeroDivisionError" in ended.stderr
