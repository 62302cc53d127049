"""Small disks, and one that fails."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def disk_of(size: str, folder: Path) -> Iterator[Path]:
    """A disk of that size ("128k", "8m") at a new folder; skips the test where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "lamplight-test", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class FailingDisk:
    """An ext4 whose device takes no new blocks while it `fails`: as on a dying card, `fsync` says so, and says it once.

    The device is a file with holes on a disk that can be filled up.
    """

    def __init__(self, room: Path, mounted: Path) -> None:
        self._device, self._fill, self.mounted = room / "device", room / "fill", mounted

    def fails(self) -> None:
        with suppress(OSError), self._fill.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def works(self) -> None:
        self._fill.unlink()

    @contextmanager
    def after_a_power_cut(self, folder: Path) -> Iterator[Path]:
        """What would be there."""
        copy = folder / "copy"
        subprocess.run(["cp", "--sparse=always", self._device, copy], check=True)
        (folder / "after").mkdir()
        subprocess.run(["mount", "-o", "loop", copy, folder / "after"], check=True)
        try:
            yield folder / "after"
        finally:
            subprocess.run(["umount", "-l", folder / "after"], check=True)


@contextmanager
def failing_disk(folder: Path) -> Iterator[FailingDisk]:
    """Skips the test where none can be mounted."""
    with disk_of("24m", folder / "room") as room:
        device, mounted = room / "device", folder / "failing"
        mounted.mkdir()
        with device.open("wb") as file:
            file.truncate(16 * 2**20)
        # Without a journal, and with every inode written, it is the blocks of files alone that find no room.
        make = [
            "mkfs.ext4",
            "-q",
            "-F",
            "-b",
            "4096",
            "-O",
            "^has_journal",
            "-E",
            "nodiscard,lazy_itable_init=0",
            device,
        ]
        path = {**os.environ, "PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"}
        if shutil.which("mkfs.ext4", path=path["PATH"]) is None:
            pytest.skip("no mkfs.ext4")
        subprocess.run(make, env=path, check=True)
        if subprocess.run(["mount", "-o", "loop", device, mounted], capture_output=True).returncode:
            pytest.skip("no right to mount a disk")
        try:
            yield FailingDisk(room, mounted)
        finally:
            subprocess.run(["umount", "-l", mounted], check=True)
