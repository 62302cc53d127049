"""The conversions around a network on a CPU, on OpenVINO: a call or two for a frame, none of which holds the GIL."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cloud_node.backends.takeover import Takeover
from cloud_node.color import Form, at_every_pixel, luma_of, planes_to_rgb, sharpness
from common.memory import give_back
from common.pixels import Bytes

FORMS = 8  # that are built; each holds some 17 bytes a pixel
PIXELS = 2 * 1024 * 1024  # of a frame, at most: larger ones stay with torch, which gives its memory back

Output = tuple[Tensor, Tensor]
Way = Callable[[Tensor, Form], Output]


class Converted:
    """A `Step` whose conversions are built, in the background, for forms that come again.

    torch makes a pass over memory of each operation, and gives the GIL away and waits to have it back: some sixty times
    for a batch. OpenVINO compiles the operations into few passes. A batch is converted frame by frame, since the planes
    of one lie in the caches.

    Args:
        network: (B, 3, H, W) -> the same, and is left as it is; None does nothing: all is one call then.
        plain: the whole work on a batch, as torch does it.
        pad: makes a frame as large as the network needs, by its border.
        threads: for the conversions.
    """

    def __init__(
        self, network: nn.Module | None, name: str, plain: Way, pad: Callable[[Tensor], Tensor], threads: int
    ) -> None:
        self._network, self._plain, self._pad, self._threads = network, plain, pad, threads
        self.ways: Takeover[[Tensor, Form], Output] = Takeover(f"{name}, conversions", plain, self._build, limit=FORMS)

    def __call__(self, raw: Tensor, form: Form) -> Output:
        return self._plain(raw, form) if form.width * form.height > PIXELS else self.ways(form, raw, form)

    def _build(self, raw: Tensor, form: Form) -> Way:
        try:
            return self._compiled(raw, form)
        finally:
            give_back()  # the compiler leaves some 100 MB of free memory behind

    def _compiled(self, raw: Tensor, form: Form) -> Way:
        from cloud_node.backends.openvino import Graph

        example = np.zeros(raw.shape[1], np.uint8)  # the batch itself belongs to the other thread
        planes = [torch.from_numpy(plane) for plane in at_every_pixel(example, form)]
        if self._network is None:
            return partial(_in_one, Graph(partial(_whole, form=form), planes, self._threads))
        padded = self._pad(torch.zeros(1, 3, form.height, form.width))
        before = Graph(partial(_to_network, form=form, pad=self._pad), planes, self._threads)
        after = Graph(partial(_from_network, form=form), [padded], self._threads)
        return partial(_around, before, self._network, after, tuple(padded.shape[1:]))


# What OpenVINO compiles.


def _whole(*planes: Tensor, form: Form) -> Output:
    """Planes of a frame, (1, 1, H, W) uint8 -> levels (1, 3, H, W) uint8 and the measures of a `Step` (1, 3)."""
    rgb = planes_to_rgb(planes, form)
    luma = luma_of(rgb)
    sharp = sharpness(luma)
    return _levels(rgb), torch.stack([luma.sum(dim=(1, 2, 3)), sharp, sharp], dim=1)


def _to_network(*planes: Tensor, form: Form, pad: Callable[[Tensor], Tensor]) -> Output:
    """Planes of a frame -> what the network gets, and the sharpness (1,)."""
    rgb = planes_to_rgb(planes, form)
    return pad(torch.cat(list(rgb), dim=1)), sharpness(luma_of(rgb))


def _from_network(out: Tensor, *, form: Form) -> Output:
    """What the network gave, (1, 3, H, W) -> levels, and (1, 2): a sum that is finite if the image is, sharpness."""
    rgb = out[..., : form.height, : form.width].split(1, dim=1)
    luma = luma_of(rgb)
    return _levels(rgb), torch.stack([luma.sum(dim=(1, 2, 3)), sharpness(luma)], dim=1)


def _levels(rgb: Sequence[Tensor]) -> Tensor:
    return torch.cat([(plane * 255).round().clamp(0, 255).to(torch.uint8) for plane in rgb], dim=1)


# What calls it.


def _in_one(graph: Callable[..., None], raw: Tensor, form: Form) -> Output:
    levels, measures = _empty(raw, form), np.empty((len(raw), 3), np.float32)
    for i, frame in enumerate(raw.numpy()):
        graph(at_every_pixel(frame, form), [levels[i : i + 1], measures[i : i + 1]])
    return _output(levels, measures)


def _around(
    before: Callable[..., None],
    network: nn.Module,
    after: Callable[..., None],
    shape: tuple[int, ...],
    raw: Tensor,
    form: Form,
) -> Output:
    frames = len(raw)
    low, sharp = np.empty((frames, *shape), np.float32), np.empty(frames, np.float32)
    for i, frame in enumerate(raw.numpy()):
        before(at_every_pixel(frame, form), [low[i : i + 1], sharp[i : i + 1]])
    out = network(torch.from_numpy(low)).float().contiguous().numpy()
    levels, measures = _empty(raw, form), np.empty((frames, 2), np.float32)
    for i in range(frames):
        after([out[i : i + 1]], [levels[i : i + 1], measures[i : i + 1]])
    return _output(levels, np.insert(measures, 1, sharp, axis=1))


def _empty(raw: Tensor, form: Form) -> Bytes:
    return np.empty((len(raw), 3, form.height, form.width), np.uint8)


def _output(levels: Bytes, measures: np.ndarray) -> Output:
    return torch.from_numpy(levels).permute(0, 2, 3, 1), torch.from_numpy(measures)
