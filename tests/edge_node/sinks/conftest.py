import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.frame import FrameId, Outcome, Priority, Reading, Region
from common.pixels import RawImage
from edge_node.sinks import Shown

MakeShown = Callable[..., Shown]


@pytest.fixture
def make_shown() -> MakeShown:
    """A settled frame; keyword arguments replace fields of its reading."""

    def make(sequence: int = 1, *, size: tuple[int, int] = (64, 48), **fields: Any) -> Shown:
        width, height = size
        dark = np.random.default_rng(sequence).integers(0, 30, (height, width, 3), dtype=np.uint8)
        outcome = fields.get("outcome", Outcome.ENHANCED)
        enhanced = np.minimum(dark * 8, 255).astype(np.uint8) if outcome.is_read else None
        defaults: dict[str, Any] = {
            "name": f"street{sequence}.jpg",
            "captured_unix_ns": 1_700_000_000_000_000_000 + sequence,
            "priority": Priority.STANDARD,
            "outcome": outcome,
            "regions": (Region(((4.0, 5.0), (40.25, 5.0), (40.25, 20.0), (4.0, 20.0)), 0.87654321),),
            "model": "fast-1",
            "sharpness_before": 0.0123456789,
            "sharpness_after": 0.25,
            "latency_ns": 123_456_789,
            "stages_ns": {"reader": 5_000_000, "source": 1_000, "engine": 7_654_321},
            "bytes_raw": 9216,
            "bytes_up": 4000,
            "bytes_down": 5000,
        }
        if not outcome.is_read:
            defaults |= {"regions": (), "reason": "its deadline passed"}
        reading = Reading(id=FrameId("gate-1", "s1", sequence), **(defaults | fields))
        return Shown(reading, enhanced, RawImage.from_rgb(dark))

    return make


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return certificate, key
