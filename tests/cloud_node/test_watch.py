import os
from pathlib import Path

from cloud_node.watch import FileWatch


def test_a_replaced_file_is_told_once_it_is_at_rest(tmp_path: Path) -> None:
    file, other = tmp_path / "weights", tmp_path / "policy"
    file.write_bytes(b"old")
    other.write_bytes(b"same")
    watch = FileWatch([file, other])
    assert watch.changed() == []
    file.write_bytes(b"half of it")
    assert watch.changed() == []
    file.write_bytes(b"half of it, and the rest")
    assert watch.changed() == [], "it still grows"
    assert watch.changed() == [file]
    assert watch.changed() == []


def test_a_file_moved_into_place_and_one_that_comes_later(tmp_path: Path) -> None:
    file, late = tmp_path / "weights", tmp_path / "policy"
    file.write_bytes(b"old")
    watch = FileWatch([file, late])
    new = tmp_path / "new"
    new.write_bytes(b"new")
    os.replace(new, file)
    late.write_bytes(b"here")
    watch.changed()
    assert watch.changed() == [file, late]


def test_a_file_that_vanishes_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"old")
    watch = FileWatch([file])
    file.unlink()
    assert watch.changed() == [] and watch.changed() == []


def test_a_file_whose_times_were_set_back_is_another(tmp_path: Path) -> None:
    file = tmp_path / "revoked.json"
    file.write_bytes(b"old")
    watch, before = FileWatch([file]), file.stat()
    file.write_bytes(b"new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    watch.changed()
    assert watch.changed() == [file]
