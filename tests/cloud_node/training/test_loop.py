from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cloud_node.laegan import load, weights_version
from cloud_node.training import pools
from cloud_node.training.distributed import Group
from cloud_node.training.frozen import Aids
from cloud_node.training.images import DataError
from cloud_node.training.loop import Stopped, Trainer, TrainingError
from cloud_node.training.recipes import RECIPES, Stage
from cloud_node.training.samples import Sampling
from cloud_node.training.settings import Settings
from cloud_node.training.sources import open_sources
from cloud_node.training.terms import Step, meet
from cloud_node.training.unpaired import Batch

Small = Callable[..., Settings]
PLAYED = RECIPES["default"].changed({"adversarial_local": 0.1, "sfp_local": 0.1, "etam": 0.2, "edge": 0.5})


class Interrupted(Trainer):
    """Is asked to stop in its second step, as by a signal."""

    def _average(self) -> None:
        super()._average()
        self.asked_to_stop = self.progress.step == 1


def tensors(state: object) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, by its place in it."""
    if isinstance(state, torch.Tensor):
        return {"": state}  # its place is in the keys above it
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {f"{key}.{name}".rstrip("."): tensor for key, value in items for name, tensor in tensors(value).items()}


@pytest.mark.parametrize(
    "given", [{}, {"recipe": "paper"}, {"changed": PLAYED}], ids=["pairs", "unpaired", "pairs with a critic"]
)
def test_resumed_training_equals_the_unbroken_one(
    given: dict[str, object], photos: Path, tmp_path: Path, small: Small
) -> None:
    settings, sources = small(3, **given), open_sources(photos)
    unbroken = Trainer(settings, sources, tmp_path / "unbroken")
    start = tensors({"model": unbroken.model.state_dict()} | {"critics": unbroken.critics.state_dict()})
    start = {name: value.clone() for name, value in start.items()}
    unbroken.run()
    with pytest.raises(Stopped):
        Interrupted(settings, sources, tmp_path / "broken").run()
    resumed = Trainer(settings, sources, tmp_path / "broken")
    assert (resumed.progress.stage, resumed.progress.step) == (0, 2)
    resumed.run()
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("unbroken", "broken")]
    assert states[0]["progress"] == states[1]["progress"] == {"stage": 1, "step": 0, "elapsed_s": 0.0, "steps": 3}
    one, other = map(tensors, states)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert any(name.startswith("critics") for name in one) == bool(given)
    assert all(not torch.equal(value, one[name]) for name, value in start.items() if name.endswith("weight"))


def test_stages_follow_each_other_and_leave_weights(photos: Path, tmp_path: Path, small: Small) -> None:
    trainer = Trainer(
        small(4, preset="paper", sampling=replace(small(1).sampling, batch=1)), open_sources(photos), tmp_path
    )
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    weights = trainer.run()
    assert trainer.progress.stage == 2 and weights == tmp_path / "paper.safetensors"
    assert weights_version("paper", weights) == "paper-training"
    changed = {name.split(".")[0] for name, value in trainer.model.named_parameters() if not value.equal(before[name])}
    assert changed == {"curve", "body"}
    saved = load("paper", weights).state_dict()
    for name, value in trainer.average.state_dict().items():
        torch.testing.assert_close(saved[name].float(), value.float(), rtol=1e-3, atol=1e-3)


def test_running_statistics_are_saved(photos: Path, tmp_path: Path, small: Small) -> None:
    sampling = replace(small(1).sampling, batch=1)
    weights = Trainer(small(1, preset="unet", sampling=sampling), open_sources(photos), tmp_path).run()
    assert (load("unet", weights).state_dict()["body.encode.0.0.2.running_mean"] != 0).any()


def test_a_run_ends_after_its_minutes(photos: Path, tmp_path: Path, small: Small) -> None:
    trainer = Trainer(small(0, minutes=0.01), open_sources(photos), tmp_path)
    assert trainer.run().exists() and trainer.progress.stage == 1 and trainer.progress.steps >= 1
    assert Trainer(small(0, minutes=0.01), open_sources(photos), tmp_path).progress == trainer.progress


def test_a_curve_alone_is_trained_without_reference(photos: Path, tmp_path: Path, small: Small) -> None:
    trainer = Trainer(small(2, preset="zero-dce-low"), open_sources(photos), tmp_path)
    assert trainer.run().name == "zero-dce-low.safetensors" and list(trainer.frozen.__dict__.values()) == [None] * 5


def test_a_term_that_is_no_number_stops_with_its_name_and_keeps_the_checkpoint(
    photos: Path, tmp_path: Path, small: Small
) -> None:
    trainer = Trainer(small(5, changed=RECIPES["default"].with_rate(1e36)), open_sources(photos), tmp_path)
    trainer.save()
    kept = trainer.checkpoint.read_bytes()
    with pytest.raises(
        TrainingError, match=r"stage pairs, step \d: .*'\w+' became (nan|inf); the last good.*checkpoint.pt"
    ):
        trainer.run()
    assert trainer.checkpoint.read_bytes() == kept


@pytest.mark.parametrize("rate", [1e7, 1e36])
def test_numbers_that_cannot_be_stored_are_never_saved(rate: float, photos: Path, tmp_path: Path, small: Small) -> None:
    settings = small(5, changed=RECIPES["default"].with_rate(rate), save_every_s=0.0)
    trainer = Trainer(settings, open_sources(photos), tmp_path)
    trainer.save()
    kept = trainer.checkpoint.read_bytes(), trainer.weights_path.read_bytes()
    with pytest.raises(TrainingError, match=r"is not written: 'body\.\S+' holds n.*before is whole.*lower --rate"):
        trainer.run()
    if rate == 1e36:  # too much at once; the other takes a step that can be stored before
        assert (trainer.checkpoint.read_bytes(), trainer.weights_path.read_bytes()) == kept
    left = tensors(torch.load(trainer.checkpoint, weights_only=True)) | load("edge", trainer.weights_path).state_dict()
    assert all(torch.isfinite(value).all() for value in left.values())
    assert Trainer(settings, trainer.sources, tmp_path).progress.step < trainer.progress.step


def test_dark_photographs_are_drawn_after_the_pairs(tmp_path: Path, small: Small, painted: Callable[..., Path]) -> None:
    low, normal = painted(tmp_path / "dark", 2, 1, (0, 20)), painted(tmp_path / "lit", 3, 2)
    seen: list[tuple[str, bool, float]] = []

    class Watched(Trainer):
        def _look(self, stage: Stage, batch: Batch) -> Step:
            seen.append((stage.name, batch.clean is None, float(batch.low.max())))
            return super()._look(stage, batch)

    settings = small(6, changed=RECIPES["default"].with_dark_photographs())
    trainer = Watched(settings, open_sources(None, [low], [normal]), tmp_path / "out")
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.run()
    assert trainer.finished and [name for name, *_ in seen] == ["pairs"] * 5 + ["unpaired"]
    assert seen[-1][1] and seen[-1][2] < 25 / 255  # as they are in the folder
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    assert trainer.critics.networks.keys() == {"adversarial_global", "adversarial_local"}


def test_a_checkpoint_of_another_training_is_refused(
    photos: Path, tmp_path: Path, small: Small, painted: Callable[..., Path]
) -> None:
    sources = open_sources(photos)
    Trainer(small(5), sources, tmp_path).save()
    first = Trainer(small(5), sources, tmp_path / "first")
    first.save()
    weights = first.weights_path
    for other, what in (
        (small(5, preset="fast"), "preset 'edge', not of 'fast'"),
        (small(5, recipe="paper"), "recipe 'default', not of 'paper'"),
        (small(5, changed=RECIPES["default"].changed({"tone": 1.0})), "terms 'pairs: .*tone=0.5', not of .*tone=1'"),
        (small(5, attention=False), "attention 'on', not of 'off'"),
        (small(5, sampling=Sampling(batch=2, crop=64, seed=4)), "seed '3', not of '4'"),
        (small(5, sampling=Sampling(batch=1, crop=64, seed=3)), "batch '2', not of '1'"),
        (small(5, sampling=Sampling(batch=2, crop=96, seed=3)), "crop '64', not of '96'"),
        (small(5, bf16=False), "precision 'bf16', not of 'fp32'"),
        (small(5, start=weights), r"start 'none', not of 'edge.safetensors \w{8}'"),
    ):
        with pytest.raises(TrainingError, match=what):
            Trainer(other, sources, tmp_path)
    with pytest.raises(TrainingError, match="processes '1', not of '2'"):
        Trainer(small(5), sources, tmp_path, Group(size=2))
    painted(photos, 1, seed=8)
    with pytest.raises(TrainingError, match="normal light 'photographs 4', not of 'photographs 5'"):
        Trainer(small(5), open_sources(photos), tmp_path)
    Trainer(small(7, changed=RECIPES["default"].with_rate(1e-5)), sources, tmp_path)  # length and rate are free


def test_training_starts_from_weights(photos: Path, tmp_path: Path, small: Small) -> None:
    sources = open_sources(photos)
    weights = Trainer(small(1), sources, tmp_path / "a").run()
    started = Trainer(small(1, start=weights), sources, tmp_path / "b")
    for name, value in load("edge", weights).state_dict().items():
        assert torch.equal(started.model.state_dict()[name], value)
    curve = Trainer(small(2, preset="paper"), sources, tmp_path / "c")
    curve.save()
    again = Trainer(small(2, preset="paper", start=curve.weights_path), sources, tmp_path / "d")
    assert [stage.name for stage in again.recipe.stages] == ["pairs"]
    with pytest.raises(TrainingError, match="is what this training writes to: choose another --out"):
        Trainer(small(1, start=weights), sources, tmp_path / "a")


def test_half_of_a_pupils_target_is_the_teachers_output(photos: Path, tmp_path: Path, small: Small) -> None:
    sources = open_sources(photos)
    weights = Trainer(small(2), sources, tmp_path / "teacher").run()
    pupil = Trainer(small(2, aids=Aids(teacher=f"edge:{weights}"), bf16=False), sources, tmp_path / "pupil")
    batch = sources.stage(pupil.recipe.stages[0], pupil.sampling)[0]
    step = pupil._look(pupil.recipe.stages[0], batch)
    assert step.clean is not None and batch.clean is not None
    torch.testing.assert_close(2 * step.clean - load("edge", weights)(batch.low), meet(batch.clean, step.pre))
    pupil.run()
    with pytest.raises(TrainingError, match="--teacher gives a target"):
        Trainer(small(2, recipe="paper", aids=Aids(teacher=f"edge:{weights}")), sources, tmp_path / "none")


def test_non_commercial_photographs_and_teachers_show_in_the_name(
    photos: Path, tmp_path: Path, small: Small, painted: Callable[..., Path]
) -> None:
    sources = replace(open_sources(photos), commercial=False)
    weights = Trainer(small(1), sources, tmp_path / "nc").run()
    assert weights.name == "edge-nc.safetensors" and weights_version("edge", weights) == "edge-nc-training"
    for settings in (small(1, start=weights), small(1, aids=Aids(teacher=f"edge:{weights}"))):
        assert Trainer(settings, open_sources(photos), tmp_path / "next").weights_path.name == "edge-nc.safetensors"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photograph_that_breaks_in_the_middle_is_named_and_what_was_learned_is_saved(
    workers: int, photos: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "LAZY_ABOVE", 3)
    sources = open_sources(photos)
    for path in list(photos.iterdir())[:3]:
        path.write_bytes(path.read_bytes()[:900])  # its header is whole
    trainer = Trainer(small(50, workers=workers), sources, tmp_path / "out")
    with pytest.raises(DataError, match=r"^\S+\.png is no image that can be read.*the same command goes on from here$"):
        trainer.run()
    assert trainer.checkpoint.exists()


def test_a_preset_without_anything_to_learn_is_told(photos: Path, tmp_path: Path, small: Small) -> None:
    only_curve = replace(RECIPES["default"], stages=RECIPES["default"].stages[:1])
    with pytest.raises(TrainingError, match="leaves nothing to train of preset 'edge'"):
        Trainer(small(1, changed=only_curve), open_sources(photos), tmp_path)
