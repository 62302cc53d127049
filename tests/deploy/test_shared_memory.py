"""A device's process where /dev/shm cannot be used at all, as in a container that has none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = 'mount -t tmpfs -o ro tmpfs /dev/shm; ! touch /dev/shm/a 2>/dev/null; exec "$@"'
TESTS = "tests/cloud_node/test_device_process.py::test_batches_reloads_and_the_end_of_a_process"
ALONE = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", WITHOUT, "sh"]


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="a mount namespace needs Linux and root")
def test_a_device_needs_no_dev_shm() -> None:
    ran = subprocess.run(
        [*ALONE, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", TESTS],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout + ran.stderr
