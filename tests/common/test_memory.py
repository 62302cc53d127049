import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from common.memory import tune_malloc
assert tune_malloc()
for _ in range(10):
    bytearray(3_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    bytearray(3_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is tuned")
def test_large_blocks_are_kept_and_not_faulted_in_again() -> None:
    """In a process of its own: the setting holds for the whole process."""
    faults = int(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
    assert faults < 50 * 3_000_000 / 4096 / 10


FREED = """
from pathlib import Path
from common.memory import give_back, tune_malloc
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
assert tune_malloc(arenas=1)
blocks = [bytes([1]) * 100_000 for _ in range(600)]
last = bytes([1]) * 100_000  # keeps the top of the heap
del blocks
before = resident_mb()
give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc holds freed memory back like this")
def test_what_is_freed_goes_back_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 30
