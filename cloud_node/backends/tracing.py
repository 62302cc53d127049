"""TorchScript's traces, one at a time and without its warnings."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_one_at_a_time = threading.Lock()  # the filters of warnings belong to the whole process


@contextmanager
def tracing() -> Iterator[None]:
    """Around `torch.jit.trace`, on whatever thread.

    It warns of what is followed once and becomes constant: that is what is wanted here.
    """
    with _one_at_a_time, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
