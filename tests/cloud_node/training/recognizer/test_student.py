"""The network that learns is the network of the file, and what it learned is what ONNX Runtime then runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cloud_node.training.recognizer.crops import Line
from cloud_node.training.recognizer.distill import (
    NOISE,
    WRITTEN,
    Course,
    Loss,
    collated,
    divergence,
    drawn,
    noisy,
    recalled,
    shares,
    stacked,
    teach,
    view,
)
from cloud_node.training.recognizer.student import Average, Student, as_input
from common.onnx_models import lean_session
from common.onnx_overlay import read_overlay, write_overlay


@pytest.fixture(scope="module")
def taught(base: Path, made: list[Line]) -> tuple[Student, Average, list[Loss]]:
    losses: list[Loss] = []
    student = Student(base)
    course = Course(steps=12, batch=3, reminders=2, rate=1e-4, warm_up=2, averaging=0.5)
    average = teach(student, Student(base), made, [], course, lambda step, loss, average: losses.append(loss))
    return student, average, losses


def test_equals_onnx_runtime_before_it_learns(base: Path) -> None:
    lines = torch.rand(2, 3, 48, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session = onnxruntime.InferenceSession(base, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: lines.numpy()})[0]
    assert np.abs(Student(base)(lines).exp().detach().numpy() - wanted).max() < 1e-4


def test_all_layers_learn_but_the_last(taught: tuple[Student, Average, list[Loss]], base: Path) -> None:
    before, after = Student(base).weights(), taught[0].weights()
    assert not any(name.startswith("linear_8") for name in after) and len(after) > 100
    assert sum(value.size for value in after.values()) > 2.9e6
    same = [name for name in after if (before[name] == after[name]).all()]
    assert not same


def test_a_few_steps_bring_it_nearer_to_the_teacher(
    taught: tuple[Student, Average, list[Loss]], base: Path, made: list[Line]
) -> None:
    images, letters, likely = collated(made, [line.views["lit"] for line in made])
    with torch.no_grad():
        before, after = (float(divergence(s(images), letters, likely)) for s in (Student(base), taught[0]))
    assert after < before
    assert len(taught[2]) == 12 and np.isfinite(taught[2]).all()
    assert taught[2][0].reminders == pytest.approx(0, abs=1e-6) and taught[2][-1].reminders > 0


def test_the_reminders_measure_the_change_of_all_letters(base: Path) -> None:
    student, (one, other) = (
        Student(base),
        torch.rand(2, 1, 3, 48, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1,
    )
    with torch.no_grad():
        distance = (student.seen(one) - student.seen(other)).square().sum(-1)
        logits = student.network(one, (student.logits,))[0] - student.network(other, (student.logits,))[0]
    torch.testing.assert_close(distance, logits.var(-1, correction=0), rtol=1e-3, atol=1e-4)


def test_reminded_it_comes_back(base: Path, made: list[Line]) -> None:
    """The weights moved off, and nothing to learn but what the teacher knows."""
    student, teacher = Student(base), Student(base)
    noise = np.random.default_rng(0)
    student.begin_from(
        {n: (v * noise.normal(0, 0.03, v.shape)).astype(np.float16) for n, v in student.weights().items()}
    )
    losses: list[Loss] = []
    known = [replace(line, views=dict.fromkeys(line.views, line.views["bright"])) for line in made]
    course = Course(steps=12, batch=1, reminders=4, keep=5.0, rate=2e-4, warm_up=1)
    teach(student, teacher, known, [], course, lambda step, loss, average: losses.append(loss))
    first, last = (np.mean([loss.reminders for loss in part]) for part in (losses[:3], losses[-3:]))
    assert last < 0.8 * first


def test_the_file_runs_as_the_average_reads(
    taught: tuple[Student, Average, list[Loss]], base: Path, made: list[Line], tmp_path: Path
) -> None:
    student, average = Student(base), taught[1]
    for name, parameter in student.learned():
        parameter.data.copy_(average.values[name])
    write_overlay(tmp_path / "dark.npz", base.read_bytes(), average.weights())
    session = lean_session(base, 1, read_overlay(tmp_path / "dark.npz"))
    for line in made[:3]:
        image = as_input(line.views["lit"], line.width)[None]
        with torch.no_grad():
            wanted = student(torch.from_numpy(image)).exp().numpy()
        found = session.run(None, {session.get_inputs()[0].name: image})[0]
        assert np.abs(found - wanted).max() < 1e-3


def test_the_divergence_is_zero_for_the_teacher_itself_and_counts_letters_more() -> None:
    likely = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.0, 0.0]]])
    letters = torch.tensor([[[0, 5], [0, 5], [0, 0]]])
    exact = torch.full((1, 3, 8), -20.0).scatter(-1, letters, likely.clamp_min(1e-9).log())
    assert float(divergence(exact, letters, likely)) == pytest.approx(0, abs=1e-5)
    wrong_blank, wrong_letter = exact.clone(), exact.clone()
    wrong_blank[0, 0, [0, 5]] -= 1
    wrong_letter[0, 1, [0, 5]] -= 1
    assert float(divergence(wrong_letter, letters, likely)) > 1.5 * float(divergence(wrong_blank, letters, likely)) > 0
    behind = exact.clone()
    behind[0, 2] = -9  # after the line's end
    assert float(divergence(behind, letters, likely)) == pytest.approx(0, abs=1e-5)


def test_batches_are_of_one_width_and_the_same_for_a_seed(made: list[Line]) -> None:
    course = Course(batch=2, seed=5)
    for (a, letters, likely), (b, *_) in zip(drawn(made, course), drawn(made, course), strict=False):
        assert (
            (a == b).all() and a.shape[0] == 2 and letters.shape == likely.shape and letters.shape[1] == a.shape[3] // 8
        )
        break


def test_written_lessons_have_their_share_however_many_they_are(made: list[Line]) -> None:
    lines = [*made, *made, *(replace(line, written=False) for line in made[:2])]
    assert all(line.written for line in made)
    share = shares(lines)
    assert share.sum() == pytest.approx(1) and share[-2:].sum() == pytest.approx(1 - WRITTEN)
    assert shares(made).sum() == pytest.approx(1)


def test_reminders_are_bright_lines_of_both_kinds(made: list[Line]) -> None:
    white = np.full((48, 64, 3), 255, np.uint8)
    batches = recalled(made, [white], Course(reminders=4))
    seen = [next(batches) for _ in range(12)]
    assert all(batch.shape[:3] == (4, 3, 48) for batch in seen)
    written = [bool((line == line[:, :1, :1]).all()) for batch in seen for line in batch]
    assert 0.4 < np.mean(written) < 0.95
    assert stacked([white]).shape == (1, 3, 48, 64)


def test_noise_is_as_strong_as_it_is_said_and_sometimes_has_a_grain() -> None:
    rng, grey = np.random.default_rng(0), np.full((48, 160, 3), 128, np.uint8)
    made = [noisy(grey, rng).astype(float) - 128 for _ in range(40)]
    strength = [noise.std() for noise in made]
    assert NOISE[0] * 0.9 < min(strength) < 5 and 12 < max(strength) < NOISE[1] * 1.1
    beside = [np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] for noise in made]
    assert 0.2 < np.mean(np.array(beside) > 0.1) < 0.8
    assert (noisy(np.full((48, 16, 3), 255, np.uint8), rng) > 100).all()  # and nothing wraps round


def test_each_view_is_drawn(made: list[Line]) -> None:
    rng, line = np.random.default_rng(0), made[0]
    seen = [view(line, rng) for _ in range(60)]
    assert all(one.shape == line.views["bright"].shape and one.dtype == np.uint8 for one in seen)
    for name in ("lit", "dark"):
        assert any(one is line.views[name] for one in seen)
    assert any(all(one is not other for other in line.views.values()) for one in seen)  # JPEG


def test_the_rate_ends_at_zero_by_steps_or_by_minutes() -> None:
    course = Course(steps=100, minutes=10, rate=1.0, warm_up=10)
    assert course.share_done(50, 0) == 0.5 and course.share_done(10, 300) == 0.5 and course.share_done(10, 900) == 1
    assert course.rate_at(0, 0) == pytest.approx(0.1) and course.rate_at(50, 0.5) == pytest.approx(0.5)
    assert course.rate_at(99, 1) == pytest.approx(0)
