"""Files that appear whole."""

import os
import secrets
from pathlib import Path

from common.errors import SettingsError


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file or replace it: at no time is it half there, or empty, also when the power goes.

    Args:
        mode: its permissions, less the umask.

    Raises:
        OSError, ValueError: it cannot be written; what was there stays.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
        sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read, or replace it whole: at no time is it half there, or another's.

    Raises:
        SettingsError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        write_whole(path, data, 0o600)
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None


def sync_folder(folder: Path) -> None:
    """Names made, changed or removed in it are on the disk to stay. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
