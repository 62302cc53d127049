import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cloud_node.backends import light
from cloud_node.backends.compiled import Compiled, powers_of_two
from cloud_node.color import Form
from common.pixels import ColorMatrix, ColorRange, PixelFormat, content_size

FORM = Form(32, 24, PixelFormat.I420, ColorRange.LIMITED, ColorMatrix.BT601)
# torch's own: it loads modules through an interface that newer Pythons drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def frames(count: int) -> torch.Tensor:
    size = content_size(FORM.pixel_format, FORM.width, FORM.height)
    return torch.from_numpy(np.random.default_rng(count).integers(0, 256, (count, size), dtype=np.uint8))


def small() -> nn.Module:
    """A compiler takes minutes for our networks; benchmarks/engine.py --compiled compiles them."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Softmax(dim=1)).eval()


@pytest.fixture
def fresh_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # what was compiled by another test is not known
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@given(st.integers(1, 1000))
def test_powers_of_two_add_up(count: int) -> None:
    parts = powers_of_two(count)
    assert sum(parts) == count and parts == sorted(set(parts), reverse=True)
    assert all(part & (part - 1) == 0 for part in parts)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
@torch.inference_mode()
def test_the_compiled_step_takes_over_and_gives_the_same(fresh_compiler: None) -> None:
    network = small()
    step = Compiled(network, light, "small-0", torch.device("cpu"))
    for _ in range(3):
        step(frames(1), FORM)
        step.ways.wait()
    assert step.ways.taken_over == [(1, FORM)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # nothing was compiled on the calling thread
    # 3 frames run as 2 + 1, and only one of them is compiled.
    (rgb, measures), (same, expected) = step(frames(3), FORM), light(network, frames(3), FORM)
    assert (rgb.int() - same.int()).abs().max() <= 1
    torch.testing.assert_close(measures, expected, rtol=1e-4, atol=1e-5)


WITHOUT_COMPILER = """
import logging
import torch
from torch import nn
from cloud_node.backends import light
from cloud_node.backends.compiled import Compiled
from cloud_node.color import Form
from common.pixels import ColorMatrix, ColorRange, PixelFormat

logging.basicConfig(format="%(message)s")
torch.set_num_threads(1)
network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Softmax(dim=1)).eval()
form = Form(32, 24, PixelFormat.RGB24, ColorRange.FULL, ColorMatrix.BT601)
raw = torch.full((1, 32 * 24 * 3), 9, dtype=torch.uint8)
step = Compiled(network, light, "small-0", torch.device("cpu"))
with torch.inference_mode():
    for _ in range(4):
        rgb, _ = step(raw, form)
        step.ways.wait()
    assert torch.equal(rgb, light(network, raw, form)[0]) and not step.ways.taken_over
"""


def test_without_a_compiler_the_plain_step_serves(tmp_path: Path) -> None:
    missing = {"CXX": "a-compiler-that-is-not-there", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER], env={**os.environ, **missing}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "small-0" in line]
    assert len(told) == 1 and "no fast path for 1 32x24 RGB24, the plain one serves: " in told[0]
