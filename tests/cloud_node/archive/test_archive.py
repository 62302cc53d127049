"""Archives: real files, the real engine, kill -9 and a real Ray cluster on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_node.archive.cli import run
from cloud_node.archive.files import PRIVATE, Archive
from cloud_node.engine import Engine
from cloud_node.enhance import read
from common.errors import SettingsError, SourceError

HERE = ("--device", "cpu", "--preset", "edge", "--threads", "1")


def dark(path: Path, seed: int, size: tuple[int, int] = (96, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 40, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "night"
    for number in range(6):
        dark(folder / f"{number}.png", number)
    for number in range(3):
        dark(folder / "deep" / "er" / f"{number}.jpg", number, (64, 96 + 16 * number))
    (folder / "notes.txt").write_text("not an image")
    return folder


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_image_is_enhanced_into_the_same_tree(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "lit"
    assert run([str(source), str(target), *HERE]) == 0
    assert tree(target) == tree(source) - {"notes.txt"}
    [expected] = Engine(_cpu(), "edge", threads=1).enhance([read(source / "0.png")])
    got = np.asarray(Image.open(target / "0.png"))
    assert np.abs(got.astype(int) - expected.rgb).max() <= 1
    assert got.mean() > 2 * np.asarray(Image.open(source / "0.png")).mean()


def test_images_of_one_size_share_batches_and_what_is_done_is_left_alone(source: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "lit"
    assert run([str(source), str(target), *HERE, "--format", "webp"]) == 0
    assert tree(target) == {f"{name}.webp" for name in tree(source) - {"notes.txt"}}
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.webp")}
    dark(source / "new.png", 99)
    assert run([str(source), str(target), *HERE, "--format", ".webp"]) == 0
    assert "1 images enhanced" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (target / "new.png.webp").exists()


def test_broken_images_are_listed_and_the_rest_is_done(source: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "lit"
    (source / "torn.png").write_bytes((source / "0.png").read_bytes()[:60])
    (source / "no.jpg").write_text("not an image at all")
    assert run([str(source), str(target), *HERE]) == 1
    assert "2 images are broken" in capsys.readouterr().err
    listed = [json.loads(line) for line in (target / PRIVATE / "broken.jsonl").read_text().splitlines()]
    assert [line["image"] for line in listed] == ["no.jpg", "torn.png"] and all(line["reason"] for line in listed)
    assert len(tree(target) - {f"{PRIVATE}/lock", f"{PRIVATE}/broken.jsonl"}) == 9
    dark(source / "torn.png", 7)
    (source / "no.jpg").unlink()
    assert run([str(source), str(target), *HERE]) == 0
    assert tree(target) == tree(source) - {"notes.txt"}


def test_killed_in_the_middle_it_goes_on_and_does_each_image_once(tmp_path: Path) -> None:
    source, target = tmp_path / "night", tmp_path / "lit"
    for number in range(30):
        dark(source / f"{number:02}.png", number, (320, 240))
    command = [sys.executable, "-m", "cloud_node", "archive", source, target, *HERE, "--batch-pixels", "80000"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list(target.glob("*.png"))) < 4:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in target.glob("*.png")}
    assert 4 <= len(before) < 30
    for path in before:
        assert np.asarray(Image.open(path)).shape == (240, 320, 3), "a file that is there is whole"
    (target / PRIVATE / "tmpleft.png").write_bytes(b"half")
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"{30 - len(before)} images enhanced" in ended.stdout and f"{len(before)} were there" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert tree(target) == {f"{number:02}.png" for number in range(30)}


def test_over_a_cluster(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (source / "torn.png").write_bytes((source / "0.png").read_bytes()[:60])
    target = tmp_path / "lit"
    command = [sys.executable, "-m", "cloud_node", "archive", source, target, *HERE, "--ray", "local", "--workers", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RAY_DEDUP_LOGS": "0"})
    assert ended.returncode == 1, ended.stderr
    assert "9 images enhanced" in ended.stdout and "1 images are broken" in ended.stderr
    assert tree(target) - {f"{PRIVATE}/lock", f"{PRIVATE}/broken.jsonl"} == tree(source) - {"notes.txt", "torn.png"}


def test_a_target_inside_the_source_is_not_read(source: Path) -> None:
    target = source / "lit"
    assert run([str(source), str(target), *HERE]) == 0
    assert run([str(source), str(target), *HERE]) == 0
    assert len(tree(target)) == 9


def test_two_jobs_do_not_write_to_one_target(source: Path, tmp_path: Path) -> None:
    archive = Archive(source, tmp_path / "lit")
    with archive.alone(), pytest.raises(SettingsError, match="another job writes"):
        run([str(source), str(tmp_path / "lit"), *HERE])


def test_what_makes_no_sense_is_said(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no folder"):
        run([str(tmp_path / "none"), str(tmp_path / "lit"), *HERE])
    with pytest.raises(SourceError, match="nothing is written over"):
        run([str(source), str(source), *HERE])
    with pytest.raises(SettingsError, match="--format gif"):
        run([str(source), str(tmp_path / "lit"), *HERE, "--format", "gif"])


def test_a_full_disk_ends_the_job_and_says_so(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "lit"
    command = f"ulimit -f 1; exec {sys.executable} -m cloud_node archive {source} {target} {' '.join(HERE)}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ended.returncode == 3 and "cannot write" in ended.stderr, ended.stderr
    assert not list(target.rglob("*.png")) and tree(target / PRIVATE) == {"lock"}, "nothing half written is left"


def _cpu():
    import torch

    return torch.device("cpu")
