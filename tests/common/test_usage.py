"""Against what psutil says, of a process that works."""

import os
import subprocess
import sys

import psutil
import pytest

from common import usage

BUSY = "import time\nheld = bytearray(80 << 20)\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc")
def test_a_process_and_one_that_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        told, known = usage.of_process(process.pid), psutil.Process(process.pid)
        assert told is not None
        assert told[0] == pytest.approx(sum(known.cpu_times()[:2]), abs=0.05) and told[0] >= 0.25
        assert told[1] == pytest.approx(known.memory_info().rss, rel=0.05) and told[1] > 80 << 20
        process.stdin.close()
    assert usage.of_process(process.pid) is None and usage.of_process(os.getpid()) is not None
