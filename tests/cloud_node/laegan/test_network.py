import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cloud_node.laegan import PRESETS, create, load, save, weights_version
from cloud_node.laegan.attention import luma
from cloud_node.laegan.curve import ZeroDCE, enhance_curve, local_curve, solve_curve
from cloud_node.laegan.network import LAEGAN, SKFF

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2}


@pytest.fixture(params=list(PRESETS))
def network(request: pytest.FixtureRequest) -> LAEGAN:
    """Each preset's network, narrow, so that the tests are fast."""
    torch.manual_seed(0)
    cfg = PRESETS[request.param]
    model = LAEGAN(replace(cfg, width=min(cfg.width, 8))).eval()
    if model.body is not None:
        torch.nn.init.normal_(model.body.head.weight, std=0.05)  # a new head is zero and would hide the body
    return model


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(torch.mean((a - b) ** 2).item())


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (33, 17), (64, 91)])
def test_any_size_comes_back_in_range(network: LAEGAN, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        for out in (network(torch.rand(2, 3, *size)), network.pre_enhance(torch.rand(2, 3, *size))):
            assert out.shape == (2, 3, *size)
            assert 0 <= out.min() and out.max() <= 1


def test_the_papers_frame_size() -> None:
    with torch.inference_mode():
        assert create("fast").eval()(torch.rand(1, 3, 400, 600)).shape == (1, 3, 400, 600)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 15, 64)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="H, W >= 16"):
        create("fast")(torch.rand(shape))


def test_a_batch_gives_what_its_frames_give(network: LAEGAN) -> None:
    frames = torch.rand(3, 3, 48, 48) * torch.tensor([0.05, 0.3, 1.0]).view(3, 1, 1, 1)
    with torch.inference_mode():
        together = network(frames)
        alone = torch.cat([network(frame[None]) for frame in frames])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_black_and_white_stay_finite(network: LAEGAN, level: float) -> None:
    with torch.inference_mode():
        out = network(torch.full((1, 3, 32, 48), level))
    assert torch.isfinite(out).all() and 0 <= out.min() and out.max() <= 1
    if level == 1.0:  # attention 0: nothing is added, and the curve keeps white
        torch.testing.assert_close(out, torch.ones_like(out), atol=1e-5, rtol=0)


def test_attention_scales_the_residual(network: LAEGAN) -> None:
    """Where the frame is bright (A = 0) the residual is 0, however strong it is elsewhere."""
    if network.body is None:
        return
    low = torch.zeros(1, 3, 32, 64)
    low[..., 32:] = 1
    with torch.inference_mode():
        residual = network.body(low, low)
    assert residual[..., 32:].abs().max() < 1e-5
    assert residual[..., :32].abs().max() > 1e-4


def test_new_network_is_its_zero_dce_stage() -> None:
    model = create("fast").eval()
    frame = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(frame), model.pre_enhance(frame))


def test_without_attention_the_bright_may_change_too(tmp_path: Path) -> None:
    model = create("fast", attention=False).eval()
    torch.nn.init.normal_(model.body.head.weight, std=0.05)
    bright = torch.ones(1, 3, 32, 32)
    path = tmp_path / "off.safetensors"
    save(model, "fast", path, version="fast-0", steps=0)
    with torch.inference_mode():
        assert model.body(bright, bright).abs().max() > 1e-4
        assert load("fast", path).body(bright, bright).abs().max() > 1e-4  # the file remembers


def scene(light: float) -> Tensor:
    """A frame with a bright and a dark half, and noise: mean about `light`."""
    noise = torch.rand(1, 3, 200, 300, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.8
    noise[..., :150] *= 1.6
    noise[..., 150:] *= 0.4
    return noise * light


def level_of(frame: Tensor) -> float:
    return float(luma(enhance_curve(frame, solve_curve(frame, 0.45))).mean())


@pytest.mark.parametrize("light", [0.01, 0.05, 0.1])
def test_the_solved_curve_meets_its_exposure(light: float) -> None:
    frames = torch.cat([scene(light), scene(light / 2)])
    alpha = solve_curve(frames, 0.45)
    assert alpha.shape == (2, 1, 1, 1) and alpha[1] > alpha[0]
    means = luma(enhance_curve(frames, alpha)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(means, torch.full((2,), 0.45), atol=0.01, rtol=0)


def test_pages_become_whiter_than_scenes_and_what_is_lit_stays() -> None:
    page = scene(0.1).mean(dim=-1, keepdim=True).expand(-1, -1, -1, 300)
    assert level_of(page) == pytest.approx(0.70, abs=0.01)
    assert level_of(scene(0.16)) == pytest.approx(0.45, abs=0.01)
    assert 0.25 < level_of(scene(0.22)) < 0.45
    assert level_of(scene(0.26)) == pytest.approx(0.26, abs=0.005)
    lamps = scene(0.08)
    lamps[..., :40, :40] = 1
    assert level_of(lamps) == pytest.approx(0.22, abs=0.01)


def mixed_scene(height: int = 240, width: int = 360) -> Tensor:
    """A dark street with a lamp, a half bright window that has a pattern, and noise."""
    night = 0.06 + torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3)) * 0.006
    night[..., 40:80, 40:80] += 0.84
    night[..., 100:180, 200:300] += 0.40
    night[..., 100:180, 200:300:8] -= 0.1
    return night.clamp(0, 1)


@pytest.mark.parametrize("preset", ["fast", "edge"])
def test_what_is_bright_stays_and_the_dark_beside_it_is_lit(preset: str) -> None:
    night, lamp, window = mixed_scene(), (slice(44, 76), slice(44, 76)), (slice(108, 172), slice(208, 292))
    with torch.inference_mode():
        lit = load(preset)(night)
    assert (lit - night)[..., lamp[0], lamp[1]].abs().mean() < 2 / 255
    before, after = night[..., window[0], window[1]], lit[..., window[0], window[1]]
    assert after.mean() < 0.7 and after.std() > 0.7 * before.std()  # not burnt: its pattern keeps its contrast
    assert lit[..., 200:, :150].mean() > 2 * night[..., 200:, :150].mean()


def test_a_few_lamps_are_enough_to_leave_the_half_bright_alone() -> None:
    dusk = scene(0.1)
    dusk[..., 100:140, 200:260] = 0.66  # a plate that reflects the camera's light
    alone = local_curve(dusk, 0.45)[..., 105:135, 205:255].mean()
    dusk[..., 40:56, 40:56] = 1  # 0.4 % of the frame
    beside = local_curve(dusk, 0.45)[..., 105:135, 205:255].mean()
    assert beside < 0.02 < alone / 2


def test_a_slight_lift_is_left_out() -> None:
    dusk = scene(0.2)
    dusk[..., :40, :40] = 1
    assert 0.2 < luma(dusk).mean() < 0.22
    assert solve_curve(dusk, 0.45) == 0


def test_a_lamp_has_no_halo() -> None:
    """Rings around it, of the dark that follows the lamp's edge, are as light as the dark far away."""
    night = mixed_scene()
    with torch.inference_mode():
        lit = luma(create("fast").eval().pre_enhance(night))[0, 0]
    far = lit[200:230, 20:150].mean()
    for ring in range(2, 20, 3):
        left = lit[45:75, 40 - ring - 3 : 40 - ring].mean()
        assert abs(left - far) < 0.02


def test_the_rim_of_a_lamp_that_is_white_stays_as_it_is() -> None:
    y, x = torch.meshgrid(torch.arange(192.0), torch.arange(256.0), indexing="ij")
    lamp = ((300 - 8 * torch.hypot(y - 96, x - 128)) / 255).clamp(0.04, 1)
    night = lamp.expand(1, 3, -1, -1).contiguous()
    with torch.inference_mode():
        alpha = create("fast").eval().curve(night)[0, 0]
    assert alpha[96, 128] < 0.01, "the white core is no exception"
    assert alpha[lamp > 0.9].max() < 0.01 < alpha[lamp < 0.05].min()


def test_within_a_sign_there_is_one_curve() -> None:
    """Strokes of a letter are as much lifted as what they stand on: a curve of the pixel would take their contrast."""
    sign = torch.full((1, 3, 240, 360), 0.05)
    sign[..., 60:180, 80:280] = 0.5
    sign[..., 70:170, 90:270:3] = 0.35
    with torch.inference_mode():
        alpha = local_curve(sign, 0.45)
    inside = alpha[..., 90:150, 110:250]
    assert inside.max() < 0.8 * alpha.max() and inside.std() < 0.1 * inside.mean()


@pytest.mark.parametrize("preset", ["reference", "fast", "edge"])
def test_a_bright_frame_comes_back_as_it_is(preset: str) -> None:
    model = create(preset).eval()
    torch.nn.init.normal_(model.body.head.weight, std=0.05)
    bright = scene(0.5).clamp(0, 1)[..., :64, 120:200]
    with torch.inference_mode():
        assert torch.equal(model(bright), bright)


def test_the_solved_curve_leaves_bright_frames_alone_and_ends_at_its_steepest() -> None:
    assert solve_curve(torch.full((1, 3, 64, 64), 0.8), 0.45).item() == 0
    assert solve_curve(torch.zeros(1, 3, 64, 64), 0.45).item() == pytest.approx(math.tanh(3.2), abs=1e-3)


@pytest.mark.parametrize("channels", [24, 3, 1])
def test_curve_is_the_published_formula(channels: int) -> None:
    low, alpha = torch.rand(1, 3, 4, 5), torch.rand(1, channels, 4, 5) * 2 - 1
    expected = low.clone()
    for n in range(8):
        for c in range(3):
            a = alpha[:, {24: 3 * n + c, 3: c, 1: 0}[channels]]
            x = expected[:, c].clone()
            expected[:, c] = x + a * x * (1 - x)
    torch.testing.assert_close(enhance_curve(low, alpha), expected)


@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.5, 1.0])
def test_curve_is_monotone_and_keeps_the_range(strength: float) -> None:
    ramp = torch.linspace(0, 1, 256).view(1, 1, 1, 256).expand(1, 3, 1, 256)
    out = enhance_curve(ramp, torch.full((1, 24, 1, 256), strength))
    assert (out.diff(dim=-1) >= -1e-6).all()
    assert out[..., 0].abs().max() == 0 and (out[..., -1] - 1).abs().max() < 1e-6


def test_published_zero_dce_has_79416_parameters() -> None:
    assert sum(p.numel() for p in ZeroDCE(PRESETS["zero-dce"]).parameters()) == 79_416


def test_the_student_fits_a_device() -> None:
    assert sum(p.numel() for p in create("edge").parameters()) <= 60_000


def test_unet_is_as_large_as_enlightengan() -> None:
    """8.64 M counted from its code, plus batch norm's and the biases of this build."""
    assert sum(p.numel() for p in create("unet").body.parameters()) == pytest.approx(8.64e6, rel=0.01)


def test_reference_is_as_large_as_computed() -> None:
    """4.18 M by hand for SRB blocks at width 32 and an RGB + A input."""
    assert sum(p.numel() for p in create("reference").body.parameters()) == pytest.approx(4.18e6, rel=0.01)


def test_fusion_weights_sum_to_one() -> None:
    features = [torch.randn(2, 16, 8, 8) for _ in range(4)]
    weights = SKFF(16, 4).weights(features)
    assert weights.shape == (4, 2, 16, 1, 1)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(2, 16, 1, 1))


def test_gradients_reach_every_parameter(network: LAEGAN) -> None:
    network.train()(torch.rand(1, 3, 32, 32) * 0.3).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ValueError, match="reference, fast"):
        create("huge")


def night_photo() -> tuple[Tensor, Tensor]:
    """A synthetic street sign by day, and the same in 1/15 of the light with noise, 8 bit."""
    generator = torch.Generator().manual_seed(1)
    day = torch.full((1, 3, 128, 192), 0.35)
    day[..., :40, :] = torch.tensor([0.55, 0.65, 0.8]).view(1, 3, 1, 1)
    day[..., 50:100, 40:150] = torch.tensor([0.15, 0.3, 0.6]).view(1, 3, 1, 1)
    day[..., 65:85, 50:140:8] = 0.9
    light = day**2.2 / 15
    noisy = light + torch.randn(day.shape, generator=generator) * (light * 4e-4 + 1e-6).sqrt()
    return day, (noisy.clamp(0, 1) ** (1 / 2.2) * 255).round() / 255


def test_committed_weights_light_up_the_dark() -> None:
    day, night = night_photo()
    model = load("fast")
    assert weights_version("fast").startswith("fast-")
    with torch.inference_mode():
        lit, pre = model(night), model.pre_enhance(night)
    assert lit.mean() > 2 * night.mean()
    assert psnr(lit, day) > psnr(night, day) + 3
    assert psnr(lit, day) > psnr(pre, day) - 0.5


@pytest.mark.parametrize("preset", ["fast", "edge"])
def test_committed_weights_invent_nothing_in_the_black(preset: str) -> None:
    model = load(preset)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 96)).max() == 0


def test_the_curve_is_solved_alike_under_autocast() -> None:
    frame = scene(0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = solve_curve(frame, 0.45)
    assert half.item() == pytest.approx(solve_curve(frame, 0.45).item(), abs=1e-5)


def test_committed_weights_keep_the_bright() -> None:
    day, _ = night_photo()
    bright = (day + 0.3).clamp(0, 1)
    with torch.inference_mode():
        assert (load("fast")(bright) - bright).abs().mean() < 0.08


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_dtypes_agree(dtype: torch.dtype) -> None:
    _, night = night_photo()
    night = night[..., :64, :64]
    with torch.inference_mode():
        out = load("fast", dtype=dtype)(night)
        assert out.dtype == torch.float32
        assert (out - load("fast")(night)).abs().max() <= TOLERANCE[dtype]
