from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloud_node.laegan import load, weights_version
from cloud_node.laegan import losses as L
from cloud_node.training.cli import main
from cloud_node.training.loop import Settings, Trainer, TrainingError, meet
from cloud_node.training.pools import training_pools
from cloud_node.training.samples import Sampling

SMALL = Sampling(batch=2, crop=64, seed=3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small made photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = Image.fromarray(rng.integers(60, 250, (6, 8, 3), dtype=np.uint8))
        coarse.resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def settings(steps: int) -> Settings:
    return Settings(steps=steps, curve_share=0.4, workers=0, sampling=SMALL)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load("fast", path).state_dict()


def test_both_stages_run_and_leave_weights(photos: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(5), training_pools(photos), tmp_path / "out")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    weights = trainer.run()
    assert weights_version("fast", weights) == "fast-training"
    changed = {
        name.split(".")[0] for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"curve", "agm"}


def test_resumed_training_equals_the_unbroken_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = training_pools(photos)
    unbroken = tensors(Trainer(settings(7), pools, tmp_path / "unbroken").run())

    def stop(*args: object) -> torch.Tensor:
        raise KeyboardInterrupt

    broken = Trainer(settings(7), pools, tmp_path / "broken")
    charbonnier, calls = L.charbonnier, 0

    def second_time_stops(*args: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return charbonnier(*args) if calls < 3 else stop()

    monkeypatch.setattr(L, "charbonnier", second_time_stops)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    broken.save()
    monkeypatch.undo()

    resumed = Trainer(settings(7), pools, tmp_path / "broken")
    assert (resumed.progress.stage, resumed.progress.step) == (1, 2)
    for name, value in tensors(resumed.run()).items():
        assert torch.equal(value, unbroken[name]), name


def test_nan_stops_with_the_terms_name_and_keeps_the_checkpoint(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings(5), training_pools(photos), tmp_path)
    trainer.save()
    kept = trainer.checkpoint.read_bytes()
    monkeypatch.setattr(L, "colour_loss", lambda lit: lit.mean() * float("nan"))
    with pytest.raises(TrainingError, match="zero-dce, step 0: the loss term 'colour' became nan.*checkpoint.pt"):
        trainer.run()
    assert trainer.checkpoint.read_bytes() == kept
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


def test_a_checkpoint_of_another_preset_is_refused(photos: Path, tmp_path: Path) -> None:
    pools = training_pools(photos)
    Trainer(settings(5), pools, tmp_path).save()
    with pytest.raises(TrainingError, match="preset 'fast', not of 'reference'"):
        Trainer(Settings(preset="reference", sampling=SMALL), pools, tmp_path)


def test_a_broken_checkpoint_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"cut")
    with pytest.raises(TrainingError, match="checkpoint.pt cannot be read"):
        Trainer(settings(5), training_pools(photos), tmp_path)


def test_command_trains_and_resumes(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "--data",
        str(photos),
        "--out",
        str(tmp_path / "out"),
        "--batch",
        "1",
        "--crop",
        "64",
        "--workers",
        "0",
        "--steps",
        "3",
        "--threads",
        str(torch.get_num_threads()),
    ]
    assert main(command) == 0
    assert "fast.safetensors" in capsys.readouterr().out
    assert main(command) == 0
    assert "resuming" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"not a picture"])
def test_command_names_what_is_wrong_with_the_data(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if content:
        (data / "broken.png").write_bytes(content)
    assert main(["--data", str(data), "--out", str(tmp_path / "out"), "--threads", str(torch.get_num_threads())]) == 2
    message = capsys.readouterr().err
    assert ("broken.png" if content else "holds no images") in message and str(data) in message


def test_targets_take_their_brightness_from_the_curve_and_their_colour_from_the_photograph() -> None:
    clean = torch.full((1, 3, 48, 48), 0.8) * torch.tensor([1.0, 0.5, 0.5]).view(1, 3, 1, 1)
    pre = torch.full((1, 3, 48, 48), 0.4)
    goal = meet(clean, pre)
    assert goal[:, 0].mean() / goal[:, 1].mean() == pytest.approx(2, rel=1e-3)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert (goal * weights).sum(dim=1).mean() == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(meet(pre, pre), pre)
