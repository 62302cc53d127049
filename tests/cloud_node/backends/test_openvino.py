import logging
import subprocess
import sys
from dataclasses import replace
from types import FrameType

import pytest
import torch

pytest.importorskip("openvino", exc_type=ImportError)

from cloud_node.backends.openvino import FIXED_SHAPES, on_openvino  # noqa: E402
from cloud_node.laegan import PRESETS, create  # noqa: E402
from cloud_node.laegan.network import LAEGAN  # noqa: E402


@pytest.fixture(scope="module")
def network() -> LAEGAN:
    torch.manual_seed(0)
    network = create("edge").eval()
    torch.nn.init.normal_(network.body.head.weight, std=0.05)
    return network


@torch.inference_mode()
def test_batches_and_sizes_change_and_shapes_that_stay_are_fixed(network: LAEGAN) -> None:
    fast = on_openvino(network, "edge-0", threads=1)
    for frames, height, width in ((1, 16, 16), (3, 48, 33), (1, 100, 64), (2, 16, 90), (1, 32, 32)):
        low = torch.rand(frames, 3, height, width) * 0.1
        expected = network(low)
        for _ in range(3):
            torch.testing.assert_close(fast(low), expected, atol=0.03, rtol=0)  # bfloat16
            fast.body.ways.wait()
    assert len(fast.body.ways.taken_over) == FIXED_SHAPES


@torch.inference_mode()
def test_the_network_itself_stays_as_it_is(network: LAEGAN) -> None:
    before = dict(network.named_parameters())
    fast = on_openvino(network, "edge-0", threads=1)
    assert fast.body is not network.body and dict(network.named_parameters()) == before
    low = torch.rand(1, 3, 32, 32)
    assert torch.equal(network(low), network(low)) and fast(low).shape == low.shape


def test_a_network_without_a_body_needs_nothing() -> None:
    bare = create("zero-dce").eval()
    assert on_openvino(bare, "zero-dce-0", threads=1) is bare


@pytest.mark.parametrize("preset", ["reference", "fast", "edge", "unet"])
@torch.inference_mode()
def test_every_preset_runs(preset: str) -> None:
    torch.manual_seed(0)
    network = LAEGAN(replace(PRESETS[preset], width=8)).eval()
    low = torch.rand(1, 3, 64, 80) * 0.1
    torch.testing.assert_close(on_openvino(network, preset, threads=1)(low), network(low), atol=0.03, rtol=0)


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys, cloud_node.backends.openvino, openvino;"
        "from openvino.tools.ovc import telemetry_utils;"
        "sys.exit(telemetry_utils.tm.__name__ != 'openvino.tools.ovc.telemetry_stub')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_log_of_the_process_stays_as_it_is(network: LAEGAN) -> None:
    root, seen = logging.getLogger(), []

    def look(frame: FrameType, event: str, argument: object) -> None:
        seen.append((root.level, len(root.handlers), len(root.filters)))

    before = root.level, len(root.handlers), len(root.filters)
    sys.setprofile(look)  # each call that is made meanwhile
    try:
        on_openvino(network, "edge-0", threads=1)
    finally:
        sys.setprofile(None)
    assert len(seen) > 1000 and set(seen) == {before}


def test_a_signal_reaches_a_node_that_let_two_networks_go() -> None:
    code = """
import gc, os, signal, torch
from cloud_node.backends.openvino import on_openvino
from cloud_node.laegan import create

network, caught = create("edge").eval(), []
signal.signal(signal.SIGHUP, lambda *_: caught.append(1))
with torch.inference_mode():
    first, second = (on_openvino(network, "edge-0", threads=1) for _ in range(2))
    del first
    gc.collect()
    del second
    gc.collect()
os.kill(os.getpid(), signal.SIGHUP)
assert caught
"""
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
