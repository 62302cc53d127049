"""The lessons: the student reads a line in the dark, or lit up, and is told what the teacher reads of its bright twin.

References:
    Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (soft targets).
    Polyak & Juditsky, 1992 (averaging of the parameters).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cloud_node.training.codecs import jpeg
from cloud_node.training.recognizer.crops import Line
from cloud_node.training.recognizer.student import Average, Student, as_input

VIEWS = {"lit": 0.72, "dark": 0.08, "bright": 0.1, "jpeg": 0.1}  # shares of the lines, as the student sees them
JPEG_QUALITY = (25, 90)
LETTERS_COUNT = 3.0  # times as much a step with a letter counts as one between letters
FAR = (0.03, 0.5)  # nats; a line is drawn the more often the farther the teacher itself is from it once lit
BATCHES_SORTED = 8  # batches that are drawn at once and sorted by width


@dataclass(frozen=True)
class Course:
    steps: int = 2000
    minutes: float = math.inf  # after which the rate has gone to 0 as well
    batch: int = 16
    rate: float = 2e-4  # highest of AdamW; rises over `warm_up` steps, then a cosine to 0
    warm_up: int = 40
    decay: float = 0.01
    clip: float = 1.0  # norm of the gradient
    averaging: float = 0.99
    seed: int = 0

    def share_done(self, step: int, seconds: float) -> float:
        return min(1.0, max(step / self.steps, seconds / (60 * self.minutes)))

    def rate_at(self, step: int, done: float) -> float:
        return self.rate * min(1.0, (step + 1) / self.warm_up) * (1 + math.cos(math.pi * done)) / 2


def teach(
    student: Student,
    lines: Sequence[Line],
    course: Course,
    after: Callable[[int, float, Average], None] = lambda step, loss, average: None,
) -> Average:
    """Train until the course's steps or minutes are over; `after` is told the number of each step, and its loss."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=course.rate, weight_decay=course.decay)
    average, batches = Average(student, course.averaging), drawn(lines, course)
    start, step = time.monotonic(), 0
    while (done := course.share_done(step, time.monotonic() - start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = course.rate_at(step, done)
        images, letters, likely = next(batches)
        loss = divergence(student(images), letters, likely)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), course.clip)
        optimizer.step()
        average.update(student)
        step += 1
        after(step, float(loss.detach()), average)
    return average


def divergence(seen: Tensor, letters: Tensor, likely: Tensor) -> Tensor:
    """How far the student is from the teacher, in nats a step: KL divergence over the letters that the teacher has.

    seen: (N, T, classes), logarithms. letters, likely: (N, T, k); of steps behind a line's end all are 0.
    """
    found = seen.gather(-1, letters)
    each = (likely * (likely.clamp_min(1e-8).log() - found)).sum(-1)  # (N, T)
    blank = (likely * (letters == 0)).sum(-1)
    weight = (likely.sum(-1) > 0) * (1 + (LETTERS_COUNT - 1) * (1 - blank))
    return (each * weight).sum() / weight.sum()


def drawn(lines: Sequence[Line], course: Course) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of lines of about one width, for ever: images, and the teacher's letters with their probabilities."""
    rng = np.random.default_rng(course.seed)
    share = np.clip([line.far for line in lines], *FAR)
    while True:
        at_once = rng.choice(len(lines), BATCHES_SORTED * course.batch, p=share / share.sum())
        chosen = sorted(at_once.tolist(), key=lambda index: lines[index].width)
        for place in rng.permutation(BATCHES_SORTED):
            batch = [lines[index] for index in chosen[place * course.batch : (place + 1) * course.batch]]
            yield collated(batch, [view(line, rng) for line in batch])


def view(line: Line, rng: np.random.Generator) -> np.ndarray:
    """The line as the student is to see it."""
    kind = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
    if kind == "jpeg":
        return jpeg(line.views["bright"], int(rng.integers(*JPEG_QUALITY)))
    return line.views[kind]


def collated(lines: Sequence[Line], views: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    width, steps = max(line.width for line in lines), max(len(line.letters) for line in lines)
    images = np.stack([as_input(seen, width) for seen in views])
    fill = [((0, steps - len(line.letters)), (0, 0)) for line in lines]
    letters = np.stack([np.pad(line.letters, pad) for line, pad in zip(lines, fill, strict=True)])
    likely = np.stack([np.pad(line.probabilities, pad) for line, pad in zip(lines, fill, strict=True)])
    as_rows = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    return as_rows, torch.from_numpy(letters).long(), torch.from_numpy(likely)
