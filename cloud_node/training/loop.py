"""The training loop: the stages of a recipe one after the other, resumed exactly, stopped before it is spoilt.

What a step draws, its samples and random crops, is a pure function of (seed, stage, step); with networks and
optimizers from the checkpoint, a training that was broken off goes on as if it had not been.
"""

import copy
import hashlib
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cloud_node.laegan import create, load
from cloud_node.laegan.curve import enhance_curve
from cloud_node.training.checkpoint import TrainingError, check_numbers, load_state, save_state, save_weights
from cloud_node.training.critics import Critics
from cloud_node.training.distributed import Group
from cloud_node.training.frozen import gather, placed
from cloud_node.training.images import DataError
from cloud_node.training.logbook import Logbook
from cloud_node.training.recipes import ADVERSARIAL_TERMS, Stage
from cloud_node.training.schedule import factor
from cloud_node.training.settings import Settings, fitting, saw_non_commercial
from cloud_node.training.sources import Sources, first_cause, stream
from cloud_node.training.terms import TERMS, Step, meet, taught
from cloud_node.training.unpaired import Batch

__all__ = ["Progress", "Settings", "Stopped", "Trainer", "TrainingError", "meet"]

ENDLESS = 10**7  # steps
FIXED, PICTURED = 10**8, 4  # the batch whose first four samples the grids show; no training comes that far
STOP = -1.0  # in place of the share that is done


class Stopped(Exception):
    """The training was asked to stop, and has saved itself."""


@dataclass
class Progress:
    stage: int = 0
    step: int = 0  # in this stage
    elapsed_s: float = 0.0  # in this stage
    steps: int = 0  # in all stages


class Trainer:
    """One training, begun or resumed: `Trainer(settings, sources, out).run()` leaves weights under `out`.

    Raises TrainingError, laegan.WeightsError, common.errors.SettingsError or ValueError for what it cannot start
    with.
    """

    def __init__(self, settings: Settings, sources: Sources, out: Path, group: Group | None = None):
        self.settings, self.sources, self.out = settings, sources, out
        self.group = group or Group()
        self.sampling = replace(settings.sampling, seed=self.group.seed(settings.sampling.seed))
        self.recipe = fitting(settings)
        self.checkpoint = out / "checkpoint.pt"
        self.asked_to_stop = False
        torch.manual_seed(settings.sampling.seed)
        self.model = placed(create(settings.preset, settings.attention), self.group.device)
        if settings.start:
            self.model.load_state_dict(load(settings.preset, settings.start).state_dict())
        self.average = copy.deepcopy(self.model).eval()
        self.frozen = gather(self.recipe, settings.aids, settings.sampling.crop, self.group.device)
        self.commercial = sources.commercial and not saw_non_commercial(settings)
        self.fingerprint = self._fingerprint()
        self.progress = Progress()
        self._enter_stage()
        if settings.start and settings.start.resolve() == self.weights_path.resolve():
            raise TrainingError(f"--from {settings.start} is what this training writes to: choose another --out")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"--out {out} cannot be a folder: {error.strerror}. Choose another one") from error
        if self.checkpoint.exists():
            self._resume()

    def run(self) -> Path:
        """Train to the end; returns the path of the weights.

        Raises TrainingError when a term stops being a number or the disk is full, DataError for a photograph that
        cannot be read, Stopped where `asked_to_stop` was set. The last two save before.
        """
        logbook = Logbook(self.out if self.group.rank == 0 else None, self.progress.steps)
        try:
            while not self.finished:
                self._run_stage(logbook)
                self.progress = Progress(stage=self.progress.stage + 1, steps=self.progress.steps)
                if not self.finished:
                    self.average.load_state_dict(self.model.state_dict())  # the next stage builds on the model itself
                    self._enter_stage()
                self.save()
        except DataError as error:
            self.save()
            raise DataError(
                f"{first_cause(error)}. Training stopped and saved: with as many photographs as before, the same "
                "command goes on from here"
            ) from error
        except OSError as error:  # of TensorBoard's files; the others' are told already
            raise TrainingError(f"{self.out} cannot be written: {error}; what was saved before is whole") from error
        finally:
            logbook.close()
        return self.weights_path

    @property
    def finished(self) -> bool:
        return self.progress.stage >= len(self.recipe.stages)

    @property
    def weights_path(self) -> Path:
        return self.out / f"{self._name}.safetensors"

    def save(self) -> None:
        """Write the checkpoint and the averaged weights; an interruption leaves the earlier ones whole.

        Raises TrainingError where the disk refuses, or a number is not finite, as stored; both are then left as they
        were.
        """
        if self.group.rank:
            return
        critics = {f"{term}.{n}": t for term, c in self.critics.networks.items() for n, t in c.state_dict().items()}
        check_numbers(self.model.state_dict() | critics, self.checkpoint)
        check_numbers(self.average.state_dict(), self.weights_path, half=True)
        state = {
            "fingerprint": self.fingerprint,
            "progress": asdict(self.progress),
            "commercial": self.commercial,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critics": self.critics.state_dict(),
        }
        save_state(state, self.checkpoint)
        version, steps = f"{self._name}-training", self.progress.steps
        save_weights(self.average, self.settings.preset, self.weights_path, version, steps)

    def _run_stage(self, logbook: Logbook) -> None:
        stage, progress = self.recipe.stages[self.progress.stage], self.progress
        limit_steps, limit_s = self._limits(stage)
        dataset = self.sources.stage(stage, self.sampling)
        samples = dataset[FIXED].first(PICTURED)
        logbook.begin(stage.name, limit_steps, progress.step)
        began = time.monotonic() - progress.elapsed_s
        saved, pin = time.monotonic(), self.group.device.type == "cuda"
        for batch in stream(dataset, range(progress.step, limit_steps or ENDLESS), self.settings.workers, pin):
            done = progress.step / limit_steps if limit_steps else progress.elapsed_s / limit_s
            done = self.group.agree(STOP if self.asked_to_stop else done)
            if done == STOP:
                self.save()
                raise Stopped
            if done >= 1:
                break
            rate = stage.rate * factor(stage.curve, progress.step, done)
            step = self._look(stage, batch)
            terms = self._learn(stage, step, rate)
            answers = self._learn_critics(step, done)
            self._average()
            progress.step += 1
            progress.steps += 1
            progress.elapsed_s = time.monotonic() - began
            logbook.step(progress.steps, terms, answers, rate)
            if time.monotonic() - saved > self.settings.save_every_s:
                self.save()
                self._picture(logbook, stage, samples)
                saved = time.monotonic()
        self._picture(logbook, stage, samples)
        logbook.end()

    def _look(self, stage: Stage, batch: Batch) -> Step:
        """Run the network on a batch: everything that the stage's terms may ask for."""
        low, clean, text, real = (self._there(part) for part in batch)
        assert low is not None
        alpha = None
        if stage.name == "zero-dce":
            alpha = self.model.curve(low)
            pre = output = enhance_curve(low, alpha)
        else:
            assert self.model.body is not None
            with torch.no_grad():
                pre = enhance_curve(low, self.model.curve(low))
                clean = meet(clean, pre) if clean is not None else None
                if clean is not None and self.frozen.teacher is not None:
                    with self._autocast():
                        clean = taught(clean, self.frozen.teacher(low).float())
            # All of the residual, unlike in use: scaled by `strength`, frames of a small lift would teach nothing.
            with self._autocast():
                output = (pre + self.model.body(pre, low)).float()
        seed = self.sampling.seed * ENDLESS + self.progress.step
        common = {"recipe": self.recipe, "frozen": self.frozen, "critics": self.critics, "bf16": self.settings.bf16}
        frames = {"low": low, "pre": pre, "output": output, "clean": clean, "text": text, "real": real}
        return Step(**common, **frames, alpha=alpha, seed=seed)  # type: ignore[arg-type]

    def _learn(self, stage: Stage, step: Step, rate: float) -> dict[str, float]:
        """One step of the generator; its weighted terms."""
        terms = {name: weight * TERMS[name](step) for name, weight in stage.terms.items()}
        values = self._checked("the loss term", terms)
        self.optimizer.zero_grad(set_to_none=True)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        parameters = self.optimizer.param_groups[0]["params"]
        self.group.average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, stage.clip)
        self._checked("the", {"gradient norm": norm})
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return values

    def _learn_critics(self, step: Step, done: float) -> dict[str, float]:
        """One step of each discriminator, where there are; their losses."""
        values: dict[str, float] = {}
        for term, optimizer in self.critics.optimizers.items():
            with step.autocast():
                loss = self.critics.loss(term, *step.played(term))
            values |= self._checked("the discriminator of", {term: loss})
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            parameters = optimizer.param_groups[0]["params"]
            self.group.average_gradients(parameters)
            optimizer.param_groups[0]["lr"] = self.critics.rate * factor("linear", self.progress.step, done)
            optimizer.step()
        return values

    def _checked(self, what: str, values: dict[str, Tensor]) -> dict[str, float]:
        """The values, copied to the host at once. TrainingError with the name of the first that is no number."""
        found = dict(
            zip(values, torch.stack([value.detach().float() for value in values.values()]).tolist(), strict=True)
        )
        for name, value in found.items():
            if not math.isfinite(value):
                there = self.checkpoint.exists()
                kept = f"the last good checkpoint is kept: {self.checkpoint}" if there else "none was written yet"
                stage = self.recipe.stages[self.progress.stage].name
                raise TrainingError(
                    f"stage {stage}, step {self.progress.step}: {what} {name!r} became {value}; {kept}. "
                    "Try a lower --rate"
                )
        return found

    def _average(self) -> None:
        decay = min(self.recipe.averaging, (1 + self.progress.step) / (10 + self.progress.step))
        self.group.average_values(self.model.buffers())
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for kept, statistic in zip(self.average.buffers(), self.model.buffers(), strict=True):
                kept.copy_(statistic)  # running statistics are means already

    def _picture(self, logbook: Logbook, stage: Stage, samples: Batch) -> None:
        if logbook.writer is None:
            return
        low, clean, _, real = (self._there(part) for part in samples)
        assert low is not None
        with torch.inference_mode():
            columns = {"dark": low, "pre": self.average.pre_enhance(low), "output": self.average(low)}
        if stage.name != "zero-dce":
            columns |= {name: part for name, part in (("clean", clean), ("real", real)) if part is not None}
        logbook.pictures(self.progress.steps, stage.name, columns)

    def _limits(self, stage: Stage) -> tuple[int, float]:
        """Steps and seconds of a stage; steps 0: by the seconds."""
        share = stage.share / sum(other.share for other in self.recipe.stages)
        steps = max(1, round(self.settings.steps * share)) if self.settings.steps else 0
        return steps, self.settings.minutes * 60 * share

    def _enter_stage(self) -> None:
        """New optimizers, and discriminators where the stage plays against them."""
        stage = self.recipe.stages[min(self.progress.stage, len(self.recipe.stages) - 1)]
        part: nn.Module | None = self.model.curve if stage.name == "zero-dce" else self.model.body
        assert part is not None
        self.optimizer = torch.optim.Adam(part.parameters(), lr=stage.rate, betas=stage.betas)
        played = ADVERSARIAL_TERMS & set(stage.terms)
        self.critics = Critics(
            played, self.recipe.discriminator_rate, self.recipe.discriminator_width, self.group.device
        )

    def _resume(self) -> None:
        state: dict[str, Any] = load_state(self.checkpoint, self.fingerprint)
        self.progress = Progress(**state["progress"])
        self.commercial = self.commercial and state["commercial"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._enter_stage()
        self.optimizer.load_state_dict(state["optimizer"])
        self.critics.load_state_dict(state["critics"])

    def _fingerprint(self) -> dict[str, str]:
        """What a checkpoint must have been begun with to be gone on from; rate and length are free."""
        settings = self.settings
        return {
            "preset": settings.preset,
            **self.recipe.fingerprint(),
            "attention": "on" if settings.attention else "off",
            "teacher": settings.aids.teacher or "none",
            "start": _named(settings.start) if settings.start else "none",
            "seed": str(settings.sampling.seed),
            "batch": str(settings.sampling.batch),
            "crop": str(settings.sampling.crop),
            "precision": "bf16" if settings.bf16 else "fp32",
            "processes": str(self.group.size),
            **self.sources.fingerprint(),
        }

    @property
    def _name(self) -> str:
        return self.settings.preset + ("" if self.commercial else "-nc")

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.settings.bf16)

    def _there(self, part: Tensor | None) -> Tensor | None:
        return part.to(self.group.device, non_blocking=True) if part is not None else None


def _named(weights: Path) -> str:
    """A file by its name and what it holds, wherever it lies."""
    return f"{weights.name} {hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"
