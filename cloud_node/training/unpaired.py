"""Low and normal light of different photographs: what a training without pairs draws from.

As in `samples`, the batch of a step is a pure function of (seed, step).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cloud_node.training.images import DataError
from cloud_node.training.pools import Photo, Pool
from cloud_node.training.samples import Batches, Sampling, crop

STREAM = 2  # of random numbers, beside the two of `samples.Batches`
REAL_SHARE = 0.5  # of the low frames that are really dark, where there are such and synthetic ones
ALONE = frozenset({"receipts_sroie", "scene_text"})  # pools whose photographs are a scene each


class Batch(NamedTuple):
    """(B, 3, S, S) in [0, 1] each; text is (B, 1, S, S). None is what the stage does not have."""

    low: Tensor
    clean: Tensor | None = None
    text: Tensor | None = None
    real: Tensor | None = None

    def first(self, count: int) -> "Batch":
        """The batch without what stands behind its first samples."""
        clean, text, real = (None if part is None else part[:count] for part in self[1:])
        return Batch(self.low[:count], clean, text, real)


def halves(pools: Sequence[Pool]) -> tuple[list[Pool], list[Pool]]:
    """Two sets of pools with no scene in both: the photographs to be darkened, and those of normal light.

    Every other photograph where each is a scene of its own; elsewhere, as in a drive, the first half and the second,
    in the order of their names. Raises DataError where a half would be empty.
    """
    first, second = [], []
    for pool in pools:
        half = (len(pool.photos) + 1) // 2
        odd, even = (pool.photos[:half], pool.photos[half:])
        if pool.name in ALONE:
            odd, even = (pool.photos[0::2], pool.photos[1::2])
        first += [replace(pool, photos=odd)] if len(odd) else []
        second += [replace(pool, photos=even)] if len(even) else []
    if not first or not second:
        raise DataError(
            "one photograph cannot be both low and normal light of an unpaired training: give more, or --low and "
            "--normal folders"
        )
    return first, second


class Pairs(Dataset):
    """Item `step`: a synthetic pair with its text; with `opposed` also normal light of other photographs.

    The pairs then come from one half of the photographs and the normal light from the other, in turn by step.
    """

    def __init__(self, pools: list[Pool], sampling: Sampling, opposed: bool = False):
        self.batches = Batches(pools, sampling)
        self.halves = [Batches(list(half), sampling) for half in halves(pools)] if opposed else []

    def __getitem__(self, step: int) -> Batch:
        if not self.halves:
            return Batch(*self.batches[step])
        pairs, normal = self.halves[step % 2], self.halves[1 - step % 2]
        rng = np.random.default_rng((normal.sampling.seed, STREAM, step))
        real = [normal.sample(rng)[1] for _ in range(normal.sampling.batch)]
        return Batch(*pairs[step], real=_stack(real))


class Unpaired(Dataset):
    """Item `step`: low light, and normal light of other photographs.

    low: really dark photographs, taken as they are. to_darken: photographs of normal light, to be darkened. One of
    the two may be empty. normal: photographs that are in neither.
    """

    def __init__(self, low: list[Pool], to_darken: list[Pool], normal: list[Pool], sampling: Sampling):
        self.low, self.sampling = low, sampling
        self.darkened = Batches(to_darken, sampling) if to_darken else None
        self.normal = Batches(normal, sampling)

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.sampling.seed, STREAM, step))
        frames = [(self._low(rng), self._normal(rng)) for _ in range(self.sampling.batch)]
        low, normal = zip(*frames, strict=True)
        return Batch(low=_stack(low), real=_stack(normal))

    def _low(self, rng: np.random.Generator) -> np.ndarray:
        if self.darkened is None or (self.low and rng.random() < REAL_SHARE):
            return self._as_it_is(self.low, rng)
        return self.darkened.sample(rng)[0]

    def _normal(self, rng: np.random.Generator) -> np.ndarray:
        if self.darkened is None:
            return self._as_it_is(self.normal.pools, rng)
        return self.normal.sample(rng)[1]  # with text written on it, as on what is darkened

    def _as_it_is(self, pools: list[Pool], rng: np.random.Generator) -> np.ndarray:
        shares = np.array([pool.share for pool in pools])
        pool = pools[rng.choice(len(pools), p=shares / shares.sum())]
        photo: Photo = pool.photos[int(rng.integers(len(pool.photos)))]
        image, _ = crop(photo, self.sampling.crop, rng)
        rgb = np.asarray(image, np.float32) / 255
        return rgb[:, ::-1] if rng.random() < 0.5 else rgb


class Whole(Dataset):
    """Item `step` for the curve: whole low photographs, darkened ones, or the really dark where `pools` is empty."""

    def __init__(self, pools: list[Pool], low: list[Pool], sampling: Sampling):
        self.sampling = replace(sampling, whole=True)
        self.batches = Batches(pools, self.sampling) if pools else None
        self.low = low

    def __getitem__(self, step: int) -> Batch:
        if self.batches is not None:
            return Batch(*self.batches[step])
        rng = np.random.default_rng((self.sampling.seed, 1, step))
        frames = []
        for _ in range(self.sampling.batch):
            pool = self.low[rng.integers(len(self.low))]
            image, _ = crop(pool.photos[int(rng.integers(len(pool.photos)))], self.sampling.crop, rng, whole=True)
            frames.append(np.asarray(image, np.float32) / 255)
        return Batch(low=_stack(frames))


def _stack(frames: Sequence[np.ndarray]) -> Tensor:
    """(H, W, 3) each -> (B, 3, H, W)."""
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1).contiguous()
