"""A training under the process's signals."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from cloud_node.training.loop import Trainer


def run(trainer: Trainer) -> Path:
    """Run a training under the signals: the first stops it after its step, saved; the second at once.

    Of one that is finished this says so, and leaves it as it is.
    """
    first = trainer.group.rank == 0
    if trainer.finished:
        if first:
            print(
                "this training is finished: choose another --out, or start from its weights with "
                f"--from {trainer.weights_path}"
            )
        return trainer.weights_path
    if first and (trainer.progress.step or trainer.progress.stage):
        print(f"resuming stage {trainer.progress.stage + 1} at step {trainer.progress.step}")
    with stopping(trainer):
        weights = trainer.run()
    if first:
        print(f"weights: {weights}")
    return weights


@contextmanager
def stopping(trainer: Trainer) -> Iterator[None]:
    """SIGINT and SIGTERM ask the trainer to stop; once asked, the next one acts as ever."""
    before: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        trainer.asked_to_stop = True
        signal.signal(number, before[number])

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
