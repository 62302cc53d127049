from pathlib import Path

import pytest
import torch

from cloud_node.laegan import WeightsError, create, load, save, weights_version


def test_untrained_preset_says_so() -> None:
    with pytest.raises(WeightsError, match="'reference' has no trained weights yet.*'fast'.*--weights"):
        load("reference")


def test_weights_of_another_preset_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save(create("fast"), "fast", path, version="fast-0", steps=3)
    assert weights_version("fast", path) == "fast-0"
    with pytest.raises(WeightsError, match="'fast', not of 'reference'"):
        load("reference", path)


def test_truncated_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save(create("fast"), "fast", path, version="fast-0", steps=3)
    whole = path.read_bytes()
    for kept in (whole[:5], whole[:1000], whole[: len(whole) // 2], b"", b"no weights at all"):
        path.write_bytes(kept)
        with pytest.raises(WeightsError, match="'fast'.*cut.safetensors"):
            load("fast", path)
    with pytest.raises(WeightsError, match="no file.*absent"):
        load("fast", tmp_path / "absent.safetensors")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save(create("reference"), "fast", path, version="fast-0", steps=3)
    with pytest.raises(WeightsError, match="does not fit"):
        load("fast", path)


def test_half_precision_storage_changes_nothing_visible(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create("fast").eval()
    torch.nn.init.normal_(model.body.head.weight, std=0.05)
    save(model, "fast", tmp_path / "half.safetensors", version="fast-0", steps=0)
    frame = torch.rand(1, 3, 64, 64) * 0.2
    with torch.inference_mode():
        stored = load("fast", tmp_path / "half.safetensors")(frame)
        assert (stored - model(frame)).abs().max() < 1 / 255
