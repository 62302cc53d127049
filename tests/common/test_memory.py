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
