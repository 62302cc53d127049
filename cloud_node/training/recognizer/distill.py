"""The lessons: the student reads a line in the dark, or lit up, and is told what the teacher reads of its bright twin.

Beside them it is reminded: of bright lines in many scripts, of which no letter is to be told otherwise than before.

References:
    Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (soft targets).
    Ba & Caruana, Do Deep Nets Really Need to be Deep?, NIPS 2014 (the squared error of the logits, for the reminders).
    Li & Hoiem, Learning without Forgetting, ECCV 2016.
    Polyak & Juditsky, 1992 (averaging of the parameters).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from cloud_node.training.codecs import jpeg
from cloud_node.training.recognizer.crops import Line
from cloud_node.training.recognizer.student import Average, Student, as_input

# Shares of the lines, as the student sees them.
VIEWS = {"lit": 0.58, "lit, jpeg": 0.15, "dark": 0.12, "bright, noisy": 0.1, "bright, jpeg": 0.05}
NOISE = (2.0, 24.0)  # levels of standard deviation, of what is bright and noisy
GRAIN = (0.5, 1.5)  # pixels: half of that noise is blurred so much, as a camera's own filters leave it
JPEG_QUALITY = (25, 90)
JPEG_SHARE = 0.3  # of the reminders
LETTERS_COUNT = 3.0  # times as much a step with a letter counts as one between letters
WRITTEN = 0.3  # of the lessons are of written pages, in whose many letters there would be too much to learn
REMINDED_OF_LESSONS = 0.3  # of the reminders are the bright twins of lessons
FAR = (0.03, 0.5)  # nats; a line is drawn the more often the farther the teacher itself is from it once lit
BATCHES_SORTED = 8  # batches that are drawn at once and sorted by width


@dataclass(frozen=True)
class Course:
    steps: int = 2000
    minutes: float = math.inf  # after which the rate has gone to 0 as well
    batch: int = 16
    reminders: int = 3  # bright lines beside each batch
    keep: float = 0.1  # weight of what they are to keep, a variance of logits, beside the lessons' nats
    rate: float = 3e-4  # highest of AdamW; rises over `warm_up` steps, then a cosine to 0
    warm_up: int = 40
    decay: float = 0.01
    clip: float = 1.0  # norm of the gradient
    averaging: float = 0.99
    seed: int = 0

    def share_done(self, step: int, seconds: float) -> float:
        return min(1.0, max(step / self.steps, seconds / (60 * self.minutes)))

    def rate_at(self, step: int, done: float) -> float:
        return self.rate * min(1.0, (step + 1) / self.warm_up) * (1 + math.cos(math.pi * done)) / 2


class Loss(NamedTuple):
    """Of one step."""

    lessons: float  # nats
    reminders: float  # variance, over all letters, of the change of their logits


def teach(
    student: Student,
    teacher: Student,
    lines: Sequence[Line],
    reminders: Sequence[np.ndarray],
    course: Course,
    after: Callable[[int, Loss, Average], None] = lambda step, loss, average: None,
) -> Average:
    """Train until the course's steps or minutes are over; `after` is told the number of each step, and its losses.

    reminders: bright crops, (48, W, 3) uint8; the lines' own are added to them.
    """
    optimizer = torch.optim.AdamW(student.parameters(), lr=course.rate, weight_decay=course.decay)
    average = Average(student, course.averaging)
    batches, bright = drawn(lines, course), recalled(lines, reminders, course)
    start, step = time.monotonic(), 0
    while (done := course.share_done(step, time.monotonic() - start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = course.rate_at(step, done)
        images, letters, likely = next(batches)
        optimizer.zero_grad()
        lessons = divergence(student(images), letters, likely)
        lessons.backward()
        known = next(bright)
        with torch.no_grad():
            before = teacher.seen(known)
        forgotten = (student.seen(known) - before).square().sum(-1).mean()
        (course.keep * forgotten).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), course.clip)
        optimizer.step()
        average.update(student)
        step += 1
        after(step, Loss(float(lessons.detach()), float(forgotten.detach())), average)
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
    while True:
        share = shares(lines)  # anew, for lines may be added
        at_once = rng.choice(len(lines), BATCHES_SORTED * course.batch, p=share)
        chosen = sorted(at_once.tolist(), key=lambda index: lines[index].width)
        for place in rng.permutation(BATCHES_SORTED):
            batch = [lines[index] for index in chosen[place * course.batch : (place + 1) * course.batch]]
            yield collated(batch, [view(line, rng) for line in batch])


def shares(lines: Sequence[Line]) -> np.ndarray:
    """How likely each line is drawn."""
    share = np.clip([line.far for line in lines], *FAR)
    written = np.array([line.written for line in lines])
    if written.any() and not written.all():
        for group, part in ((written, WRITTEN), (~written, 1 - WRITTEN)):
            share[group] *= part / share[group].sum()
    return share / share.sum()


def recalled(lines: Sequence[Line], reminders: Sequence[np.ndarray], course: Course) -> Iterator[Tensor]:
    """Batches of bright lines of about one width, some of them through JPEG, for ever."""
    rng = np.random.default_rng((course.seed, 1))
    pools: list[Sequence[np.ndarray]] = [[line.views["bright"] for line in lines]]
    if reminders:
        pools.append(reminders)
    while True:
        own = rng.random(BATCHES_SORTED * course.reminders) < REMINDED_OF_LESSONS
        from_pools = [pools[0 if mine else -1] for mine in own]
        chosen = sorted((pool[int(rng.integers(len(pool)))] for pool in from_pools), key=lambda crop: crop.shape[1])
        for place in rng.permutation(BATCHES_SORTED):
            batch = chosen[place * course.reminders : (place + 1) * course.reminders]
            yield stacked([compressed(crop, rng) if rng.random() < JPEG_SHARE else crop for crop in batch])


def view(line: Line, rng: np.random.Generator) -> np.ndarray:
    """The line as the student is to see it."""
    kind, *change = str(rng.choice(list(VIEWS), p=list(VIEWS.values()))).split(", ")
    crop = line.views[kind]
    if "noisy" in change:
        crop = noisy(crop, rng)
    return compressed(crop, rng) if "jpeg" in change else crop


def noisy(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With the noise of a camera that has little light and shows it bright."""
    deviation = np.exp(rng.uniform(*np.log(NOISE)))
    noise = rng.normal(0, deviation, crop.shape)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(*GRAIN))
        noise *= deviation / noise.std()
    return (crop + noise + 0.5).clip(0, 255).astype(np.uint8)


def compressed(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return jpeg(crop, int(rng.integers(*JPEG_QUALITY)))


def collated(lines: Sequence[Line], views: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    steps = max(len(line.letters) for line in lines)
    fill = [((0, steps - len(line.letters)), (0, 0)) for line in lines]
    letters = np.stack([np.pad(line.letters, pad) for line, pad in zip(lines, fill, strict=True)])
    likely = np.stack([np.pad(line.probabilities, pad) for line, pad in zip(lines, fill, strict=True)])
    return stacked(views), torch.from_numpy(letters).long(), torch.from_numpy(likely)


def stacked(crops: Sequence[np.ndarray]) -> Tensor:
    """Crops as one batch, all as wide as the widest."""
    width = max(crop.shape[1] for crop in crops)
    images = np.stack([as_input(crop, width) for crop in crops])
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
