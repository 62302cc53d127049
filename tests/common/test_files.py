"""Files that appear whole, and stay."""

import os
import stat
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.files import write_private


def test_a_file_and_its_name_are_on_the_disk_before_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, sync, replace = [], os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        done.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_private(tmp_path / "key", "secret")
    assert done == ["file", "replace", "folder"] and (tmp_path / "key").read_text() == "secret"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_private(tmp_path / "key", "old")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "key", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(SettingsError, match="cannot write"):
            write_private(path, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "key"]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Whoever may write to the folder would have another file overwritten, or the secret put where he can read it."""
    theirs, path = tmp_path / "theirs", tmp_path / "edge-17.bundle"
    theirs.write_text("untouched")
    path.symlink_to(theirs)
    write_private(path, "secret")
    assert theirs.read_text() == "untouched" and path.read_text() == "secret"
    assert not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600
