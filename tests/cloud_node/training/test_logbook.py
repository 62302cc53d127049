from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cloud_node.training.logbook import Logbook, grid


def events(out: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(out / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_terms_shares_and_pictures_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = Logbook(tmp_path, 0)
    book.begin("pairs", 20, 0)
    for number in range(1, 21):
        book.step(number, {"tone": 1.0, "edge": 3.0}, {"adversarial_local": 0.5}, rate=1e-4)
    book.pictures(20, "pairs", {"dark": torch.zeros(2, 3, 8, 8), "output": torch.ones(2, 3, 8, 8)})
    book.end()
    book.close()
    kept = events(tmp_path)
    assert [(event.step, event.value) for event in kept.Scalars("share/edge")] == [(10, 0.75), (20, 0.75)]
    assert kept.Scalars("term/tone")[0].value == 1 and kept.Scalars("critic/adversarial_local")[0].value == 0.5
    assert kept.Scalars("learning rate")[1].value == pytest.approx(1e-4)
    [picture] = kept.Images("pairs: dark | output")
    assert (picture.width, picture.height, picture.step) == (20, 20, 20)
    assert "edge=3.0000 (75%)" in capsys.readouterr().err


def test_what_was_written_after_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    for steps, value in ((0, 1.0), (10, 2.0)):
        book = Logbook(tmp_path, steps)
        book.begin("pairs", 0, steps)
        for number in range(steps + 1, steps + 21):
            book.step(number, {"tone": value}, {}, rate=1e-4)
        book.close()
    kept = [(event.step, event.value) for event in events(tmp_path).Scalars("term/tone")]
    assert kept == [(10, 1), (20, 2), (30, 2)]


def test_other_processes_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = Logbook(None, 0)
    book.begin("pairs", 1, 0)
    book.step(10, {"tone": 1.0}, {}, rate=1e-4)
    book.pictures(10, "pairs", {"dark": torch.zeros(2, 3, 8, 8)})
    book.close()
    assert not list(tmp_path.iterdir()) and capsys.readouterr() == ("", "")


def test_a_grid_has_a_row_for_each_sample_and_a_column_for_each_kind() -> None:
    columns = [torch.full((2, 3, 4, 6), value) for value in (0.0, 0.25, 0.5)]
    picture = grid(columns)
    assert picture.shape == (3, 2 * 8 - 4, 3 * 10 - 4)
    assert picture[:, 8:, 10:16].unique().tolist() == [0.25] and picture[:, :4, 20:].unique().tolist() == [0.5]
    assert picture[:, 4:8].unique().tolist() == [1]
