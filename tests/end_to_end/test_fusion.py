"""`--fuse N` from the command line to the readings."""

from pathlib import Path

import numpy as np
from PIL import Image
from processes import Cloud, Process, dark_sign, edge_arguments, readings


def test_fused_frames_are_all_read_and_take_fewer_bytes(cloud: Cloud, tmp_path: Path) -> None:
    folder, out = tmp_path / "burst", tmp_path / "out"
    folder.mkdir()
    scene = np.asarray(dark_sign("STATION", (320, 240))).astype(float)
    for number in range(6):
        noise = np.random.default_rng(number).normal(4, 4, scene.shape)
        Image.fromarray((scene + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    edge = Process(*edge_arguments(cloud.address, folder, out, "--fuse", "6", "--detector", "none"))
    assert edge.wait() == 0, edge.output
    found = readings(out)
    assert [line["name"] for line in found] == [f"{number}.png" for number in range(6)]
    assert [line["outcome"] for line in found] == ["enhanced"] * 6
    assert found[-1]["bytes"]["up"] < 0.95 * found[0]["bytes"]["up"]
    assert "frames: 6 enhanced" in edge.output and "fused: 3." in edge.output


def test_fuse_0_is_refused(tmp_path: Path) -> None:
    edge = Process("-m", "edge_node", "--source", str(tmp_path), "--fuse", "0")
    assert edge.wait() != 0
    assert "--fuse" in edge.output and "1" in edge.output
