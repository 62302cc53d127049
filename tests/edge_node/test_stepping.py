import pytest

from common.settings import load
from edge_node.settings import EdgeSettings
from edge_node.stepping import Measure, Step, Stepper, ladder, stepper_for

MEGABYTE = 1_000_000
EVERYTHING = set(Measure)


def play(stepper: Stepper, rate: float, frames: int, size: float = MEGABYTE, beside_s: float = 0.0) -> list[str]:
    """So many frames of `size` lossless bytes over a link of this rate; what they were sent as."""
    said = []
    for _ in range(frames):
        step = stepper.choose(rate)
        sent = int(size * step.share)
        stepper.packed(step, sent)
        stepper.arrived(sent / rate + beside_s, sent, rate)
        said.append(str(step))
    return said


def test_the_ladder_has_only_what_is_allowed() -> None:
    assert [str(step) for step in ladder(())] == ["lossless"]
    assert [str(step) for step in ladder({Measure.BOUNDED})] == ["lossless", "error 1", "error 2"]
    assert [str(step) for step in ladder({Measure.SIZE})] == ["lossless", "size 0.75", "size 0.5"]
    assert [str(step) for step in ladder(EVERYTHING)][-2:] == [
        "error 2, size 0.5, 1 of 2",
        "error 2, size 0.5, 1 of 4",
    ]


def test_a_link_that_carries_them_leaves_frames_lossless() -> None:
    assert set(play(Stepper(ladder(EVERYTHING), 1.0), 2 * MEGABYTE, 50)) == {"lossless"}


def test_one_step_at_a_time_down_to_what_fits() -> None:
    said = play(Stepper(ladder(EVERYTHING - {Measure.RATE}), 0.5), MEGABYTE, 50)
    assert list(dict.fromkeys(said)) == ["lossless", "error 1", "error 2"] and said[-1] == "error 2"
    said = play(Stepper(ladder(EVERYTHING - {Measure.RATE}), 0.2), MEGABYTE, 50)
    assert list(dict.fromkeys(said))[-1] == "error 2, size 0.5"


def test_no_further_than_the_last_step() -> None:
    assert play(Stepper(ladder({Measure.BOUNDED}), 0.01), MEGABYTE, 50)[-1] == "error 2"


def test_up_again_when_the_link_allows_and_not_at_once() -> None:
    stepper = Stepper(ladder(EVERYTHING - {Measure.RATE}), 0.5)
    play(stepper, MEGABYTE, 20)
    said = play(stepper, 10 * MEGABYTE, 40)
    assert list(dict.fromkeys(said)) == ["error 2", "error 1", "lossless"]
    assert said.index("error 1") >= 4, "not for one good moment"


def test_it_does_not_swing_between_two_steps() -> None:
    """Error 1 fits just so, lossless does not: it stays."""
    stepper = Stepper(ladder(EVERYTHING), 0.62)
    said = play(stepper, MEGABYTE, 200)
    assert said[-150:] == ["error 1"] * 150


def test_what_a_frame_takes_beside_the_link_counts() -> None:
    alone, slow = Stepper(ladder({Measure.BOUNDED}), 1.1), Stepper(ladder({Measure.BOUNDED}), 1.1)
    assert play(alone, MEGABYTE, 20)[-1] == "lossless"
    assert play(slow, MEGABYTE, 20, beside_s=0.4)[-1] == "error 1"


def test_smaller_scenes_are_noticed_in_any_step() -> None:
    stepper = Stepper(ladder({Measure.BOUNDED}), 0.5)
    play(stepper, MEGABYTE, 20)
    assert play(stepper, MEGABYTE, 60, size=MEGABYTE / 4)[-1] == "lossless"


def test_frames_are_left_out_last() -> None:
    stepper = Stepper(ladder(EVERYTHING), 0.1, paced=True)
    assert play(stepper, MEGABYTE, 30)[-1] == "error 2, size 0.5, 1 of 2"
    assert [stepper.skips() for _ in range(6)].count(True) == 3
    assert not any(Stepper(ladder(()), 1.0).skips() for _ in range(6))


def steps(live: bool, *flags: str) -> tuple[Step, ...]:
    return stepper_for(load(EdgeSettings, ["--camera", "0", *flags], {}), live).steps


def test_the_rules_of_the_user() -> None:
    assert len(steps(True)) == 1, "nothing is in a hurry"
    assert len(steps(True, "--fps", "5")) == 7
    assert len(steps(False, "--fps", "5")) == 1, "a file waits"
    assert len(steps(False, "--deadline-ms", "500")) == 5
    assert len(steps(True, "--fps", "5", "--step-down", "off")) == 1
    assert {step.scale for step in steps(True, "--fps", "5", "--step-down", "bounded")} == {1.0}
    essential = ("--deadline-ms", "500", "--priority", "essential")
    assert len(steps(True, *essential)) == 1 and len(steps(True, *essential, "--step-down-essential")) == 5


def test_rules_that_cannot_be() -> None:
    for given in ("nothing", "off,size", ""):
        with pytest.raises(Exception, match="--step-down"):
            load(EdgeSettings, ["--camera", "0", "--step-down", given], {})
