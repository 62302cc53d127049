"""What the folders on the command line give a training: photographs of normal and of low light, and their licence."""

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from cloud_node.training.images import DataError, find_images
from cloud_node.training.pools import (
    SHARES,
    Pool,
    commercial,
    dark_files,
    files,
    photos,
    read,
    trainable,
    training_pools,
)
from cloud_node.training.readers import Item, find, unpaired
from cloud_node.training.recipes import ADVERSARIAL_TERMS, Stage
from cloud_node.training.samples import Sampling
from cloud_node.training.unpaired import Batch, Pairs, Unpaired, Whole, halves

NORMAL_SHARE = 0.5  # of the --normal folders beside the --data folder, whose pools' shares sum to 1


@dataclass(frozen=True)
class Sources:
    """Photographs to learn from."""

    normal: list[Pool]  # normal light, to be darkened or to be taken as real
    low: list[Pool] = field(default_factory=list)  # really dark
    apart: bool = False  # low was named by the user: it is the whole input of a training without pairs
    commercial: bool = True  # no file lies in a pool that is known to be non-commercial

    def describe(self) -> str:
        """Pools and their sizes, in a line."""
        said = [f"{pool.name}: {len(pool.photos)} photographs" for pool in self.normal]
        said += [f"{pool.name}: {len(pool.photos)} dark ones" for pool in self.low]
        return ", ".join(said) + ("" if self.commercial else "; some are for non-commercial use only (-nc)")

    def fingerprint(self) -> dict[str, str]:
        """Pools and their sizes in words, to be compared with those of a checkpoint: other sizes draw otherwise."""
        of = {"normal light": self.normal, "low light": self.low}
        return {what: ", ".join(f"{p.name} {len(p.photos)}" for p in pools) or "none" for what, pools in of.items()}

    def stage(self, stage: Stage, sampling: Sampling) -> Dataset[Batch]:
        """The batches of a stage. Raises DataError where there are not the photographs that it needs."""
        if stage.name != "unpaired" and not self.normal:
            raise DataError(f"stage {stage.name!r} darkens photographs of normal light: give --data or --normal")
        if stage.name == "zero-dce":
            return Whole([] if self.apart else self.normal, self.low, sampling)
        if stage.name == "pairs":
            return Pairs(self.normal, sampling, opposed=bool(ADVERSARIAL_TERMS & set(stage.terms)))
        if self.apart:
            return Unpaired(self.low, [], self.normal, sampling)
        to_darken, normal = halves(self.normal)
        return Unpaired(self.low, to_darken, normal, sampling)


def open_sources(data: Path | None, low: Sequence[Path] = (), normal: Sequence[Path] = ()) -> Sources:
    """Read the folders; --data and --normal are added up, and --low takes the place of the dark photographs of --data.

    Raises DataError for folders that cannot be trained on, among them those of low and of normal light that share
    scenes or files, and where there is no normal light at all.
    """
    if data is None and not normal:
        raise DataError("there is no normal light to learn from: give --data DIR, or --normal DIR")
    lows = [item for folder in low for item in find(folder, "low")]
    normals = [item for folder in normal for item in find(folder, "normal")]
    of_data = _files_of(data) if data else []
    if lows:
        lows, kept = unpaired(lows, normals + [Item(path, f"{data}/{path}") for path in of_data])
        normals = [item for item in kept if item.path not in set(of_data)]
    pools = training_pools(data) if data else []
    if normals:
        pools.append(Pool("normal", NORMAL_SHARE, photos("normal", _paths(normals))))
    dark_paths = _paths(lows) if lows else (dark_files(data)[0] if data else [])
    dark = [Pool("low" if lows else "plates_ro", 1.0, photos("low", dark_paths, read))] if dark_paths else []
    free = commercial([*dark_paths, *_paths(normals), *of_data])
    return Sources(pools, dark, apart=bool(lows), commercial=free)


def _files_of(data: Path) -> list[Path]:
    """What `training_pools` reads of a data folder."""
    known = [path for name in SHARES for path in files(data, name)[0]]
    return known or trainable(path for path in find_images(data) if path.parent == data)


def _paths(items: Sequence[Item]) -> list[Path]:
    return [item.path for item in items]


def stream(dataset: Dataset[Batch], steps: range, workers: int, pin: bool) -> Iterator[Batch]:
    """The batches of these steps, made by so many processes ahead of their use; pinned in memory for a GPU."""
    return iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            pin_memory=pin,
            worker_init_fn=_leave_signals_to_the_parent,
        )
    )


def first_cause(error: DataError) -> str:
    """The message of an error that a worker raised, without the worker's traceback around it."""
    return re.split(r"DataError: ", str(error))[-1].strip().rstrip(".")


def _leave_signals_to_the_parent(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
