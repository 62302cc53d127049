import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cloud_node.laegan.ctc import RecognizerTwin
from cloud_node.laegan.dbnet import DetectorTwin
from cloud_node.laegan.features import BackboneFeatures
from cloud_node.training.critics import Critics
from cloud_node.training.frozen import Aids, Frozen, gather
from cloud_node.training.recipes import RECIPES, UNPAIRED_TERMS, Recipe
from cloud_node.training.terms import TERMS, Step, meet, taught
from common.onnx_models import wheel_model
from common.text_detection import DBNet

CPU = torch.device("cpu")
DEFAULT = RECIPES["default"]


@pytest.fixture(scope="module")
def twin() -> DetectorTwin:
    return DetectorTwin(wheel_model("det", "the test"))


def stripes(shift: float = 0.0) -> Tensor:
    """Something with strokes: (2, 3, 64, 64)."""
    columns = (torch.arange(64) // 4 % 2).float() * 0.5 + 0.25 + shift
    return columns.expand(2, 3, 64, 64).clone()


def step(twin: DetectorTwin, recipe: Recipe = DEFAULT) -> Step:
    critics = Critics(["adversarial_global", "adversarial_local"], 1e-4, 4, CPU)
    generator = torch.Generator().manual_seed(0)
    output = (stripes() + 0.05 * torch.randn(2, 3, 64, 64, generator=generator)).requires_grad_()
    text = torch.zeros(2, 1, 64, 64)
    text[..., :30, :32] = 1
    frozen = Frozen(twin, BackboneFeatures(twin), RecognizerTwin(wheel_model("rec", "the test")))
    alpha = torch.rand(2, 3, 64, 64, generator=generator).requires_grad_()
    frames = {"low": stripes() / 8, "pre": stripes() - 0.1, "clean": stripes(), "real": stripes(0.1)}
    return Step(recipe, frozen, output=output, alpha=alpha, text=text, critics=critics, seed=1, **frames)


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_a_finite_number_that_teaches(name: str, twin: DetectorTwin) -> None:
    known = step(twin)
    known.__dict__["mask"] = known.text  # the detector finds no text in stripes
    value = TERMS[name](known)
    assert value.shape == () and torch.isfinite(value)
    learner = known.alpha if name == "smoothness" else known.output
    assert learner is not None
    (slope,) = torch.autograd.grad(value, learner)
    assert torch.isfinite(slope).all() and slope.abs().max() > 0


def test_what_the_clean_frame_is_costs_nothing(twin: DetectorTwin) -> None:
    known = replace(step(twin), output=stripes())
    for name in ("gradient", "tone", "reading", "preserving", "words"):
        assert TERMS[name](known).item() == pytest.approx(0, abs=1e-6)
    assert TERMS["charbonnier"](known).item() < 2e-3


def test_only_the_first_half_of_a_batch_is_read(twin: DetectorTwin) -> None:
    known = step(twin)
    slope = torch.autograd.grad(TERMS["reading"](known), known.output)[0]
    assert slope[0].abs().max() > 0 and slope[1].abs().max() == 0


def test_text_counts_double(twin: DetectorTwin) -> None:
    known = step(twin)
    assert known.weight[..., :30, :32].unique().tolist() == [2] and known.weight[..., 32:].unique().tolist() == [1]


def test_the_generator_teaches_no_critic_and_the_critics_no_generator(twin: DetectorTwin) -> None:
    known = step(twin)
    assert known.critics is not None
    for term in ("adversarial_global", "adversarial_local"):
        TERMS[term](known).backward()
        network = known.critics.networks[term]
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
        known.output.grad = None
        known.critics.loss(term, *known.played(term)).backward()
        assert known.output.grad is None
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_crops_are_five_of_each_frame_and_follow_the_seed(twin: DetectorTwin) -> None:
    known = step(twin)
    output, low = known.crops
    assert output.shape == low.shape == (10, 3, 32, 32) and known.real_crops.shape == output.shape
    assert torch.equal(output, replace(known).crops[0]) and not torch.equal(output, replace(known, seed=2).crops[0])


def test_forms_of_etam_and_edge_differ(twin: DetectorTwin) -> None:
    values = {}
    for form in ("contrast", "paper"):
        known = step(twin, replace(DEFAULT, etam=form, edge="masked" if form == "contrast" else "paper"))
        known.__dict__["mask"] = known.text
        values[form] = TERMS["etam"](known).item(), TERMS["edge"](known).item()
    assert abs(values["contrast"][0] - values["paper"][0]) > 1e-3
    assert abs(values["contrast"][1] - values["paper"][1]) > 1e-3


def test_text_is_found_by_the_twin_and_by_boxes() -> None:
    page = Image.new("RGB", (160, 96), "white")
    ImageDraw.Draw(page).text((12, 30), "EXIT 42", font=ImageFont.load_default(32), fill="black")
    pre = torch.from_numpy(np.asarray(page).copy()).movedim(-1, 0)[None].float() / 255
    by_twin = gather(DEFAULT, Aids(), 96, CPU)
    by_boxes = gather(replace(DEFAULT, etam="paper"), Aids(), 96, CPU)
    assert by_twin.boxes is None and isinstance(by_boxes.boxes, DBNet) and by_boxes.twin is not None
    masks = [frozen.text(pre) for frozen in (by_twin, by_boxes)]
    ink = (pre.mean(dim=1, keepdim=True) < 0.5).float()
    for mask in masks:
        assert mask.shape == (1, 1, 96, 160) and set(mask.unique().tolist()) == {0, 1}
        assert (mask * ink).sum() > 0.5 * ink.sum() and mask.mean() < 0.5


def test_only_the_networks_that_a_recipe_needs_are_loaded() -> None:
    bare = DEFAULT.changed({}, ["etam", "reading", "preserving"])
    assert gather(bare, Aids(), 64, CPU) == Frozen()
    paper = gather(RECIPES["paper"], Aids(), 64, CPU)
    assert paper.features is not None and paper.boxes is not None and paper.twin is None
    with pytest.raises(ValueError, match="--teacher slow: there is no preset 'slow'"):
        gather(bare, Aids(teacher="slow"), 64, CPU)


def test_critics_go_on_from_their_state() -> None:
    first, second = (Critics(["adversarial_local"], 1e-4, 4, CPU) for _ in range(2))
    real, fake = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    first.loss("adversarial_local", real, fake).backward()
    first.optimizers["adversarial_local"].step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for critic in (first, second):
        critic.optimizers["adversarial_local"].zero_grad()
        critic.loss("adversarial_local", real, fake).backward()
        critic.optimizers["adversarial_local"].step()
    for a, b in zip(*(c.networks["adversarial_local"].parameters() for c in (first, second)), strict=True):
        assert torch.equal(a, b)


def test_targets_take_their_brightness_from_the_curve_and_their_colour_from_the_photograph() -> None:
    clean = torch.full((1, 3, 48, 48), 0.8) * torch.tensor([1.0, 0.5, 0.5]).view(1, 3, 1, 1)
    pre = torch.full((1, 3, 48, 48), 0.4)
    goal = meet(clean, pre)
    assert goal[:, 0].mean() / goal[:, 1].mean() == pytest.approx(2, rel=1e-3)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert (goal * weights).sum(dim=1).mean() == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(meet(pre, pre), pre)


def test_a_pupil_learns_half_from_the_teacher() -> None:
    torch.testing.assert_close(taught(torch.zeros(1), torch.ones(1)), torch.tensor([0.5]))


def test_the_papers_terms_are_those_without_pairs(twin: DetectorTwin) -> None:
    known = replace(step(twin), clean=None, text=None)
    known.__dict__["mask"] = torch.ones(2, 1, 64, 64)
    assert all(torch.isfinite(TERMS[name](known)) for name in UNPAIRED_TERMS)
