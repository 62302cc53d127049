"""What a training says while it runs: a line that moves, and TensorBoard with curves and sample grids."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cloud_node.laegan.losses import term_shares

SMOOTHING = 0.98  # of what the line shows
CURVES_EVERY = 10  # steps
GAP = 4  # pixels between pictures of a grid


class Logbook:
    """Writes under OUT/tensorboard. `out` None: says and writes nothing, as all processes but the first do."""

    def __init__(self, out: Path | None, steps: int):
        """steps: already done; what an earlier, interrupted run wrote after that is dropped."""
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=steps + 1) if out else None
        self.bar: tqdm | None = None
        self.shown: dict[str, float] = {}

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` steps begins, or goes on after `done`; total 0: unknown."""
        self.shown = {}
        if self.writer:
            self.bar = tqdm(total=total or None, initial=done, desc=stage, unit="step", mininterval=2)

    def step(self, number: int, terms: Mapping[str, float], critics: Mapping[str, float], rate: float) -> None:
        """One step of all stages together: weighted terms, the critics' losses and the learning rate."""
        if self.writer is None or self.bar is None:
            return
        for name, value in terms.items():
            self.shown[name] = SMOOTHING * self.shown.get(name, value) + (1 - SMOOTHING) * value
        shares = term_shares({name: torch.tensor(value) for name, value in self.shown.items()})
        line = {name: f"{value:.4f} ({shares[name]:.0%})" for name, value in self.shown.items()}
        self.bar.set_postfix(line, refresh=False)
        self.bar.update()
        if number % CURVES_EVERY == 0:
            shares = term_shares({name: torch.tensor(value) for name, value in terms.items()})
            for name, value in terms.items():
                self.writer.add_scalar(f"term/{name}", value, number)
                self.writer.add_scalar(f"share/{name}", shares[name], number)
            for name, value in critics.items():
                self.writer.add_scalar(f"critic/{name}", value, number)
            self.writer.add_scalar("learning rate", rate, number)

    def pictures(self, number: int, stage: str, columns: Mapping[str, Tensor]) -> None:
        """A grid of the same samples as ever: a row each, and a column (B, 3, S, S) in [0, 1] for each name."""
        if self.writer:
            name = f"{stage}: {' | '.join(columns)}"
            self.writer.add_image(name, grid(list(columns.values())), number)
            self.writer.flush()

    def end(self) -> None:
        """The stage is over, or interrupted."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def close(self) -> None:
        self.end()
        if self.writer:
            with suppress(OSError):  # told when it was written
                self.writer.close()


def grid(columns: list[Tensor]) -> Tensor:
    """Columns (B, 3, H, W) each -> one picture (3, B * (H + gap) - gap, n * (W + gap) - gap), white between."""
    rows = torch.stack([column.detach().float().cpu().clamp(0, 1) for column in columns], dim=1)  # (B, n, 3, H, W)
    rows = torch.nn.functional.pad(rows, (0, GAP, 0, GAP), value=1.0)
    return rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)[:, :-GAP, :-GAP]
