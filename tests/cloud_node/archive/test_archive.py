"""Archives: real files, the real engine, kill -9 and a real Ray cluster on this machine."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from cloud_node.archive.cli import _Shown, run
from cloud_node.archive.cluster import _done, _Worker
from cloud_node.archive.files import PRIVATE, Archive
from cloud_node.archive.job import Report
from cloud_node.archive.pipeline import Done, Limits
from cloud_node.engine import Engine
from cloud_node.enhance import read
from common.errors import LamplightError, SettingsError, SourceError, WeightsError

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
    assert sorted(line["image"] for line in listed) == ["no.jpg", "torn.png"] and all(line["reason"] for line in listed)
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
    command = [sys.executable, "-m", "cloud_node", "archive", "night", "lit"]  # as seen from here, not from a worker
    command += [*HERE, "--ray", "local", "--workers", "1"]
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert "9 images enhanced" in ended.stdout and "1 images are broken" in ended.stderr
    assert tree(target) - {f"{PRIVATE}/lock", f"{PRIVATE}/broken.jsonl"} == tree(source) - {"notes.txt", "torn.png"}


def test_what_stops_a_worker_is_said_in_words(source: Path, tmp_path: Path) -> None:
    """And not in Ray's: the row is what comes back from there."""
    archive = Archive(source, tmp_path / "lit")
    archive.private.mkdir(parents=True)
    (archive.target / "deep").write_text("in the way of a folder")
    for preset, failure, words in (("edge", SourceError, "cannot write"), ("nosuch", WeightsError, "nosuch")):
        worker = _Worker(archive, preset, Limits(threads=1), False)
        rows = worker({"images": [["deep/er/0.jpg"]]})
        with pytest.raises(LamplightError, match=words) as raised:
            _done({name: values[0] for name, values in rows.items()})
        assert raised.value.exit_code == failure.exit_code
    assert not _done({name: values[0] for name, values in _worked(archive, "0.png").items()}).reason


def _worked(archive: Archive, image: str) -> dict[str, list[object]]:
    return _Worker(archive, "edge", Limits(threads=1), False)({"images": [[image]]})


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
    assert not (tmp_path / "lit").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--format", "gif"), "--format gif: one of"),
        (("--gpus", "x"), "--gpus x: numbers"),
        (("--threads", "0"), "--threads 0: 1.."),
        (("--quality", "200"), "--quality 200: 1..100"),
        (("--batch-pixels", "-1"), "--batch-pixels -1: 0.."),
        (("--gpus", "0", "--device", "cpu"), "exclude each other"),
        (("--gpus", "0", "--ray", "auto"), "by --workers"),
        (("--workers", "2"), "goes with --ray"),
    ],
)
def test_flags_that_make_no_sense_are_said(flags: tuple[str, ...], words: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        run([str(source), str(tmp_path / "lit"), *flags])


def test_a_full_disk_ends_the_job_and_says_so(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "lit"
    command = f"ulimit -f 1; exec {sys.executable} -m cloud_node archive {source} {target} {' '.join(HERE)}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ended.returncode == 3 and "cannot write" in ended.stderr, ended.stderr
    assert not list(target.rglob("*.png")) and tree(target / PRIVATE) == {"lock"}, "nothing half written is left"


@pytest.mark.parametrize(("suffix", "size"), [("webp", (16_400, 8)), ("jpg", (8, 65_520))])
def test_an_image_that_its_format_cannot_hold_does_not_stop_the_rest(
    suffix: str, size: tuple[int, int], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "lit"
    dark(source / "0long.png", 1, size)
    assert run([str(source), str(target), *HERE, "--format", suffix]) == 1
    [line] = (target / PRIVATE / "broken.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == "0long.png" and f"cannot be written as .{suffix}" in json.loads(line)["reason"]
    assert len(list(target.rglob(f"*.{suffix}"))) == 9


def test_a_broken_image_is_listed_as_it_comes(source: Path, tmp_path: Path) -> None:
    """So that the list is there after kill -9 too."""
    report = Report(tmp_path / "broken.jsonl")
    report.add(Done("a.png", reason="torn"))
    report.add(Done("b.png", pixels=1))
    assert json.loads(report.file.read_text()) == {"image": "a.png", "reason": "torn"}
    report.file.unlink()
    report.file.mkdir()
    with pytest.raises(SourceError, match="cannot write"):
        report.add(Done("c.png", reason="torn"))


def test_a_list_that_cannot_be_written_ends_the_job_and_says_so(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "lit"
    (target / PRIVATE / "broken.jsonl").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"cannot write .*broken\.jsonl"):
        run([str(source), str(target), *HERE])


def test_what_is_left_goes_while_no_other_job_can_start(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear, kept_out = Archive.clear, []

    def cleared(archive: Archive) -> None:
        with pytest.raises(SettingsError, match="another job writes"), archive.alone():
            pass
        kept_out.append(True)
        clear(archive)

    monkeypatch.setattr(Archive, "clear", cleared)
    assert run([str(source), str(tmp_path / "lit"), *HERE]) == 0 and kept_out


def test_a_lock_on_a_file_that_is_gone_does_not_count(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job before took its folder away when the next one had its lock file open."""
    archive, flock = Archive(source, tmp_path / "lit"), fcntl.flock

    def late(file: IO[str], how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        archive.clear()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with archive.alone():
        with pytest.raises(SettingsError, match="another job writes"), archive.alone():
            pass
        archive.write("0.png", b"whole")


def test_a_source_that_goes_away_is_said_once(source: Path, tmp_path: Path) -> None:
    """By the job; who counts the images meanwhile is silent."""
    archive = Archive(source, tmp_path / "lit")
    source.rename(tmp_path / "elsewhere")
    with _Shown(archive):
        pass
    with pytest.raises(SourceError, match="cannot look into"):
        list(archive.images())


def _cpu():
    import torch

    return torch.device("cpu")
