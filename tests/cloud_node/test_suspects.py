"""Frames that a device was lost with."""

import pytest
from devices import HEIGHT, WIDTH, make_job

from cloud_node import suspects as module
from cloud_node.jobs import Job
from cloud_node.suspects import Suspects


def again(suspects: Suspects, sequence: int) -> Job:
    """The same picture, from whoever sends it."""
    job = make_job(sequence, edge="another")
    suspects.ticket(job, WIDTH, HEIGHT, 0)
    return job


def test_a_suspect_goes_alone_and_fails_at_the_second_loss() -> None:
    suspects = Suspects()
    assert not suspects.blame(again(suspects, 1))
    assert make_job(1) in suspects and make_job(2) not in suspects
    job = again(suspects, 1)
    assert job.alone and suspects.ticket(job, WIDTH, HEIGHT, 0).bucket == id(job)
    assert not suspects.guilty(job) and suspects.blame(job) and suspects.guilty(make_job(1))
    assert not again(suspects, 2).alone


def test_who_was_among_others_is_not_guilty() -> None:
    suspects = Suspects()
    first, second = again(suspects, 1), again(suspects, 1)
    assert not suspects.blame(first) and not suspects.blame(second)


def test_what_a_device_outlives_is_cleared_unless_it_is_guilty() -> None:
    suspects = Suspects()
    suspects.blame(again(suspects, 1))
    suspects.clear(again(suspects, 1))
    assert make_job(1) not in suspects and not suspects._sizes
    for _ in range(2):
        suspects.blame(again(suspects, 1))
    suspects.clear(again(suspects, 1))
    assert suspects.guilty(make_job(1))


def test_old_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    suspects = Suspects()
    for sequence in range(5):
        suspects.blame(again(suspects, sequence))
    assert [make_job(n) in suspects for n in range(5)] == [False, False, True, True, True]
    assert sum(suspects._sizes.values()) == 3
