import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disks import disk_of

from edge_node.sinks import AnnotatedImages, Shown, WhileRoom

MakeShown = Callable[..., Shown]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of("8m", tmp_path / "disk") as disk:
        yield disk


def pictures(folder: Path) -> int:
    return len(list(folder.glob("*.jpg")))


def test_pictures_stop_before_the_disk_is_full_and_go_on_when_there_is_room(
    small_disk: Path, make_shown: MakeShown, caplog: pytest.LogCaptureFixture
) -> None:
    sink = WhileRoom(AnnotatedImages(small_disk / "annotated"), small_disk, min_free_mib=4)
    sink.write(make_shown(1))
    (small_disk / "other").write_bytes(bytes(5 * 2**20))
    with caplog.at_level(logging.WARNING):
        sink.write(make_shown(2))
        sink.write(make_shown(3))
        assert pictures(small_disk / "annotated") == 1 and sink.left_out == 2
        assert len(caplog.records) == 1 and "--min-free-mib 4" in caplog.text
        (small_disk / "other").write_bytes(bytes(int(3.5 * 2**20)))  # above the bound, not yet well above it
        sink.write(make_shown(4))
        assert pictures(small_disk / "annotated") == 1
        (small_disk / "other").unlink()
        sink.write(make_shown(5))
    assert pictures(small_disk / "annotated") == 2
    assert len(caplog.records) == 2 and "3 are missing" in caplog.text
    sink.close()


def test_a_bound_of_nothing_and_a_bound_beyond_the_disk(tmp_path: Path, make_shown: MakeShown) -> None:
    for bound, written in ((0, 1), (10**9, 0)):
        folder = tmp_path / str(bound)
        sink = WhileRoom(AnnotatedImages(folder), folder, bound)
        sink.write(make_shown())
        assert pictures(folder) == written
