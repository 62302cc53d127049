"""The two stages of the first training, with checkpoints that resume exactly and a loss that may not turn NaN.

1. 'zero-dce': the curve learns without reference from whole photographs.
2. 'agm': the curve is frozen, AGM-Net learns to bring the pre-enhanced dark frame to the clean one.
"""

import copy
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from cloud_node.laegan import create, save
from cloud_node.laegan import losses as L
from cloud_node.laegan.attention import luma
from cloud_node.laegan.network import enhance_curve
from cloud_node.training.pools import Pool
from cloud_node.training.samples import Batches, Sampling

STAGES = ("zero-dce", "agm")


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what is kept."""


@dataclass(frozen=True)
class LossWeights:
    """What each term of the two losses counts."""

    spatial: float = 1.0
    exposure: float = 10.0
    exposure_level: float = 0.5  # the paper's 0.6 washes photographs out
    exposure_regions: int = 3  # regions along a side; the paper's 16 make every corner of the frame equally grey
    colour: float = 2.0
    smoothness: float = 1600.0  # as in Zero-DCE++
    charbonnier: float = 1.0
    gradient: float = 1.5
    tone: float = 0.5
    text: float = 1.0  # extra weight of a pixel inside a text box


@dataclass(frozen=True)
class Settings:
    preset: str = "fast"
    steps: int = 0  # of both stages together; 0: as many as `minutes` allow
    minutes: float = 40.0
    curve_share: float = 0.1  # of steps or minutes, for the Zero-DCE stage
    rate: float = 7e-4  # highest learning rate of AGM-Net; it falls along a cosine
    curve_rate: float = 5e-4
    sampling: Sampling = field(default_factory=Sampling)
    weights: LossWeights = field(default_factory=LossWeights)
    averaging: float = 0.999  # of the exponential mean of the parameters, which is what gets saved
    save_every_s: float = 120.0
    workers: int = 1  # processes that make samples; 0: in this one


@dataclass
class Progress:
    stage: int = 0
    step: int = 0  # in this stage
    elapsed_s: float = 0.0  # in this stage
    steps: int = 0  # in all stages


class Trainer:
    """One training, begun or resumed: `Trainer(settings, pools, out).run()` leaves weights under `out`."""

    def __init__(self, settings: Settings, pools: list[Pool], out: Path):
        self.settings, self.pools, self.out = settings, pools, out
        self.checkpoint = out / "checkpoint.pt"
        torch.manual_seed(settings.sampling.seed)
        self.model = create(settings.preset)  # channels_last trains slower on a CPU
        self.average = copy.deepcopy(self.model)
        self.progress = Progress()
        self.optimizer = self._optimizer()
        out.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()

    def run(self) -> Path:
        """Train to the end; returns the path of the weights. TrainingError when the loss stops being a number."""
        while self.progress.stage < len(STAGES):
            self._run_stage()
            self.progress = Progress(stage=self.progress.stage + 1, steps=self.progress.steps)
            self.average.load_state_dict(
                self.model.state_dict() if self.progress.stage == 1 else self.average.state_dict()
            )
            self.optimizer = self._optimizer()
            self.save()
        return self.weights_path

    @property
    def weights_path(self) -> Path:
        return self.out / f"{self.settings.preset}.safetensors"

    def losses(self, stage: int, dark: Tensor, clean: Tensor, text: Tensor) -> dict[str, Tensor]:
        """The weighted terms of a stage's loss for one batch."""
        w = self.settings.weights
        if stage == 0:
            alpha = self.model.curve(dark)
            lit = enhance_curve(dark, alpha)
            region = dark.shape[-1] // w.exposure_regions
            return {
                "spatial": w.spatial * L.spatial_loss(lit, dark),
                "exposure": w.exposure * L.exposure_loss(lit, dark, w.exposure_level, region),
                "colour": w.colour * L.colour_loss(lit),
                "smoothness": w.smoothness * L.smoothness_loss(alpha),
            }
        with torch.no_grad():
            pre = enhance_curve(dark, self.model.curve(dark))
            clean = meet(clean, pre)
        output = pre + self.model.agm(pre, dark)
        weight = 1 + w.text * text
        return {
            "charbonnier": w.charbonnier * L.charbonnier(output, clean, weight),
            "gradient": w.gradient * L.gradient_loss(output, clean, weight),
            "tone": w.tone * L.tone_loss(output, clean),
        }

    def save(self) -> None:
        """Write the checkpoint and the averaged weights; an interruption leaves the earlier ones whole."""
        state = {
            "settings": asdict(self.settings),
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        fresh = self.checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        os.replace(fresh, self.checkpoint)
        fresh = self.weights_path.with_suffix(".new")
        save(
            self.average,
            self.settings.preset,
            fresh,
            version=f"{self.settings.preset}-training",
            steps=self.progress.steps,
        )
        os.replace(fresh, self.weights_path)

    def _run_stage(self) -> None:
        stage, name = self.progress.stage, STAGES[self.progress.stage]
        limit_steps, limit_s = self._limits(stage)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        peak = self.settings.curve_rate if stage == 0 else self.settings.rate
        began = time.monotonic() - self.progress.elapsed_s
        saved = time.monotonic()
        bar = tqdm(total=limit_steps or None, initial=self.progress.step, desc=name, mininterval=2)
        shown: dict[str, float] = {}
        for dark, clean, text in self._batches(stage, limit_steps):
            done = self.progress.step / limit_steps if limit_steps else self.progress.elapsed_s / limit_s
            if done >= 1:
                break
            warm = min(1.0, (self.progress.step + 1) / 200)
            for group in self.optimizer.param_groups:
                group["lr"] = peak * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
            terms = self.losses(stage, dark, clean, text)
            for term, value in terms.items():
                self._check(term, value)
            self.optimizer.zero_grad(set_to_none=True)
            sum(terms.values()).backward()  # type: ignore[union-attr]
            self._check("gradient norm", torch.nn.utils.clip_grad_norm_(parameters, 0.5))
            self.optimizer.step()
            self._average(stage)
            self.progress.step += 1
            self.progress.steps += 1
            self.progress.elapsed_s = time.monotonic() - began
            for term, value in terms.items():
                shown[term] = 0.98 * shown.get(term, value.item()) + 0.02 * value.item()
            bar.update()
            bar.set_postfix({term: f"{value:.4f}" for term, value in shown.items()}, refresh=False)
            if time.monotonic() - saved > self.settings.save_every_s:
                self.save()
                saved = time.monotonic()
        bar.close()

    def _check(self, term: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            kept = (
                f"the last good checkpoint is kept: {self.checkpoint}"
                if self.checkpoint.exists()
                else ("no checkpoint was written yet")
            )
            raise TrainingError(
                f"stage {STAGES[self.progress.stage]}, step {self.progress.step}: the loss term "
                f"{term!r} became {value.item()}; {kept}. Try a lower --rate"
            )

    def _average(self, stage: int) -> None:
        decay = min(self.settings.averaging, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)

    def _limits(self, stage: int) -> tuple[int, float]:
        share = self.settings.curve_share if stage == 0 else 1 - self.settings.curve_share
        steps = max(1, round(self.settings.steps * share)) if self.settings.steps else 0
        return steps, self.settings.minutes * 60 * share

    def _batches(self, stage: int, limit_steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        sampling = self.settings.sampling
        data = Batches(self.pools, Sampling(**{**vars(sampling), "whole": stage == 0}))
        order = range(self.progress.step, limit_steps or 10**7)
        workers = self.settings.workers
        return iter(
            DataLoader(
                data,
                batch_size=None,
                sampler=order,
                num_workers=workers,
                prefetch_factor=8 if workers else None,
            )
        )

    def _optimizer(self) -> torch.optim.Optimizer:
        part = self.model.curve if self.progress.stage == 0 else self.model.agm
        return torch.optim.Adam(part.parameters(), lr=self.settings.rate, betas=(0.9, 0.999))

    def _resume(self) -> None:
        try:
            state = torch.load(self.checkpoint, weights_only=False)
        except Exception as error:
            raise TrainingError(f"{self.checkpoint} cannot be read: {error}. Remove it to begin anew") from error
        if state["settings"]["preset"] != self.settings.preset:
            raise TrainingError(
                f"{self.checkpoint} is a training of preset {state['settings']['preset']!r}, "
                f"not of {self.settings.preset!r}: choose another --out"
            )
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer = self._optimizer()
        self.optimizer.load_state_dict(state["optimizer"])


def meet(clean: Tensor, pre: Tensor, regions: int = 6) -> Tensor:
    """The clean frame (B, 3, H, W) with its brightness brought to that of the pre-enhanced one, region by region.

    Exposure is the Zero-DCE stage's decision. A target that contradicts it, like a white page where the stage made
    a grey one, teaches AGM-Net to guess exposures; what it learns from pages is wrong for streets, and it learns
    little else in a short training. Colours stay the clean frame's.
    """
    have, want = (F.adaptive_avg_pool2d(luma(image), regions) + 0.02 for image in (clean, pre))
    factor = F.interpolate((want / have).clamp(0.4, 1.6), clean.shape[-2:], mode="bilinear")
    return (clean * factor).clamp(0, 1)
