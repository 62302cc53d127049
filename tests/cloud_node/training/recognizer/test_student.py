"""The network that learns is the network of the file, and what it learned is what ONNX Runtime then runs."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cloud_node.training.recognizer.crops import Line
from cloud_node.training.recognizer.distill import Course, collated, divergence, drawn, teach, view
from cloud_node.training.recognizer.student import Average, Student, as_input
from common.onnx_models import lean_session
from common.onnx_overlay import read_overlay, write_overlay


@pytest.fixture(scope="module")
def taught(base: Path, made: list[Line]) -> tuple[Student, Average, list[float]]:
    losses: list[float] = []
    student = Student(base)
    course = Course(steps=12, batch=3, rate=1e-4, warm_up=2, averaging=0.5)
    average = teach(student, made, course, lambda step, loss, average: losses.append(loss))
    return student, average, losses


def test_equals_onnx_runtime_before_it_learns(base: Path) -> None:
    lines = torch.rand(2, 3, 48, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session = onnxruntime.InferenceSession(base, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: lines.numpy()})[0]
    assert np.abs(Student(base)(lines).exp().detach().numpy() - wanted).max() < 1e-4


def test_all_layers_learn_but_the_last(taught: tuple[Student, Average, list[float]], base: Path) -> None:
    before, after = Student(base).weights(), taught[0].weights()
    assert not any(name.startswith("linear_8") for name in after) and len(after) > 100
    assert sum(value.size for value in after.values()) > 2.9e6
    same = [name for name in after if (before[name] == after[name]).all()]
    assert not same


def test_a_few_steps_bring_it_nearer_to_the_teacher(
    taught: tuple[Student, Average, list[float]], base: Path, made: list[Line]
) -> None:
    images, letters, likely = collated(made, [line.views["lit"] for line in made])
    with torch.no_grad():
        before, after = (float(divergence(s(images), letters, likely)) for s in (Student(base), taught[0]))
    assert after < before
    assert len(taught[2]) == 12 and all(np.isfinite(taught[2]))


def test_the_file_runs_as_the_average_reads(
    taught: tuple[Student, Average, list[float]], base: Path, made: list[Line], tmp_path: Path
) -> None:
    student, average = Student(base), taught[1]
    for name, parameter in student.learned():  # half of the way
        parameter.data.copy_((parameter.detach() + average.values[name]) / 2)
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


def test_each_view_is_drawn(made: list[Line]) -> None:
    rng, line = np.random.default_rng(0), made[0]
    seen = [view(line, rng) for _ in range(60)]
    assert all(one.shape == line.views["bright"].shape and one.dtype == np.uint8 for one in seen)
    for name in ("bright", "lit", "dark"):
        assert any(one is line.views[name] for one in seen)
    assert any(all(one is not other for other in line.views.values()) for one in seen)  # JPEG


def test_the_rate_ends_at_zero_by_steps_or_by_minutes() -> None:
    course = Course(steps=100, minutes=10, rate=1.0, warm_up=10)
    assert course.share_done(50, 0) == 0.5 and course.share_done(10, 300) == 0.5 and course.share_done(10, 900) == 1
    assert course.rate_at(0, 0) == pytest.approx(0.1) and course.rate_at(50, 0.5) == pytest.approx(0.5)
    assert course.rate_at(99, 1) == pytest.approx(0)
