import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from cloud_node.laegan import LAEGAN, PRESETS, load, weights_version
from cloud_node.training.checkpoint import TrainingError, load_state, save_state, save_weights

FULL = Path("/dev/full")


def test_a_state_comes_back(tmp_path: Path) -> None:
    state = {"fingerprint": {"preset": "edge"}, "model": {"a": torch.arange(3)}, "progress": {"step": 7}}
    save_state(state, tmp_path / "checkpoint.pt")
    back = load_state(tmp_path / "checkpoint.pt", {"preset": "edge"})
    assert back["progress"] == {"step": 7} and torch.equal(back["model"]["a"], torch.arange(3))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_is_no_checkpoint_of_this_training_is_told(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_state({"fingerprint": {"preset": "edge", "recipe": "default"}}, path)
    with pytest.raises(TrainingError, match="is a training of preset 'edge', not of 'fast': choose another --out"):
        load_state(path, {"preset": "fast", "recipe": "default"})
    with pytest.raises(TrainingError, match="is a training of recipe 'default', not of 'paper'"):
        load_state(path, {"preset": "edge", "recipe": "paper"})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TrainingError, match="checkpoint.pt is truncated or no checkpoint.*Remove it"):
        load_state(path, {})
    torch.save({"settings": {}}, path)
    with pytest.raises(TrainingError, match="no checkpoint of this version"):
        load_state(path, {})


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_last_good_checkpoint_whole(tmp_path: Path) -> None:
    path, fresh = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.new"
    fresh.symlink_to(FULL)
    with pytest.raises(TrainingError, match="the disk is full; nothing was saved before"):
        save_state({"fingerprint": {}}, path)
    save_state({"fingerprint": {}}, path)
    kept = path.read_bytes()
    fresh.symlink_to(FULL)
    with pytest.raises(TrainingError, match=r"the disk is full; what was saved before is whole: .*checkpoint\.pt"):
        save_state({"fingerprint": {}}, path)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


def test_weights_that_do_not_fit_leave_the_last_good_ones_whole(tmp_path: Path) -> None:
    path, model = tmp_path / "edge.safetensors", LAEGAN(PRESETS["edge"])
    save_weights(model, "edge", path, "edge-1", 1)
    kept, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot be written.*saved before is whole: .*edge\.safetensors"):
            save_weights(model, "edge", path, "edge-1", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


def test_what_is_saved_is_on_the_disk_before_its_name_and_the_name_before_it_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def noting(file: int) -> None:
        fsync(file)
        done.append(("fsync", Path(f"/proc/self/fd/{file}").readlink().name))

    def naming(source: Path, to: Path) -> None:
        rename(source, to)
        done.append(("rename", to.name))

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "replace", naming)
    save_state({"fingerprint": {}}, tmp_path / "checkpoint.pt")
    assert done == [("fsync", "checkpoint.new"), ("rename", "checkpoint.pt"), ("fsync", tmp_path.name)]
    done.clear()
    save_weights(LAEGAN(PRESETS["edge"]), "edge", tmp_path / "edge.safetensors", "edge-1", 1)
    assert done == [("fsync", "edge.new"), ("rename", "edge.safetensors"), ("fsync", tmp_path.name)]


def test_a_folder_that_cannot_be_synced_is_said_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fails(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink() == tmp_path:
            raise OSError(5, "Input/output error")
        fsync(file)

    save_state({"fingerprint": {}, "step": 1}, tmp_path / "checkpoint.pt")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(TrainingError, match=r"checkpoint.pt is written, but after a power cut .* Input/output error"):
        save_state({"fingerprint": {}, "step": 2}, tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    ("number", "message"), [(float("nan"), "holds no finite numbers"), (7e4, "holds numbers above 65504")]
)
def test_weights_that_half_precision_cannot_hold_are_refused(number: float, message: str, tmp_path: Path) -> None:
    path, model = tmp_path / "edge.safetensors", LAEGAN(PRESETS["edge"])
    save_weights(model, "edge", path, "edge-1", 1)
    kept, (name, parameter) = path.read_bytes(), list(model.named_parameters())[2]
    with torch.no_grad():
        parameter.view(-1)[1] = number
    with pytest.raises(TrainingError, match=rf"edge\.safetensors is not written: '{name}' {message}.*before is whole"):
        save_weights(model, "edge", path, "edge-1", 2)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


def test_weights_say_that_they_have_no_attention(tmp_path: Path) -> None:
    model, path = LAEGAN(replace(PRESETS["edge"], attention=False)), tmp_path / "edge.safetensors"
    save_weights(model, "edge", path, "edge-1", 5)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"preset": "edge", "version": "edge-1", "steps": "5", "attention": "off"}
    assert weights_version("edge", path) == "edge-1"
    assert not load("edge", path).cfg.attention
