"""torch.compile, and on a GPU a CUDA graph of what it gives, for each shape of a batch."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cloud_node.backends.takeover import Takeover
from cloud_node.color import Form

log = logging.getLogger(__name__)

Output = tuple[Tensor, Tensor]
Way = Callable[[Tensor, Form], Output]
RECOMPILE_LIMIT = 64
TOLERANCE = 8  # levels of 255 by which a compiled path may differ anywhere from the plain one, both in bf16


class Compiled:
    """A `Step` of which shapes that come again are compiled in the background.

    Args:
        network: (B, 3, H, W) -> the same.
        work: the whole work on a batch, given a network: `backends.light`.
    """

    def __init__(self, network: nn.Module, work: Callable[..., Output], name: str, device: torch.device) -> None:
        self._network, self._work, self._name, self._cuda = network, work, name, device.type == "cuda"
        self._pool: Any = None
        self._plain: Way = partial(work, network)
        self.ways: Takeover[[Tensor, Form], Output] = Takeover(
            f"{name} on {device}", self._plain, self._build, adopt=self._adopt
        )

    def __call__(self, raw: Tensor, form: Form) -> Output:
        # Few sizes of batches, each with a graph of its own: 7 frames run as 4 + 2 + 1.
        sizes = powers_of_two(len(raw))
        if len(sizes) == 1:
            return self.ways((len(raw), form), raw, form)
        # A graph's output may lie where another graph, of the same pool, works.
        parts = [tuple(each.clone() for each in self.ways((len(part), form), part, form)) for part in raw.split(sizes)]
        rgb, measures = zip(*parts, strict=True)
        return torch.cat(rgb), torch.cat(measures)

    def _build(self, raw: Tensor, form: Form) -> Way:
        example = torch.zeros_like(raw)  # the batch itself belongs to the other thread
        # The conversions around the network stay as they are: they are a small share, and Inductor trips over them.
        fast = partial(self._work, torch.compile(self._network, dynamic=False))
        try:
            # Each shape is a graph of its own; past the limit nothing would be compiled. This thread's setting.
            with torch.inference_mode(), torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
                fast(example, form)
        except Exception as error:
            if not self._cuda:
                raise
            reason = (str(error) or repr(error)).strip().splitlines()[0]
            log.warning("%s: not compiled, a CUDA graph of the plain path takes over: %s", self._name, reason)
            return self._plain
        return fast

    def _adopt(self, fast: Way, raw: Tensor, form: Form) -> Way:
        adopted = self._captured(fast, raw, form) if self._cuda else fast
        difference = (adopted(raw, form)[0].int() - self._plain(raw, form)[0].int()).abs().max().item()
        if difference > TOLERANCE:
            raise RuntimeError(f"it differs from the plain path by {difference} levels")
        return adopted

    def _captured(self, step: Way, raw: Tensor, form: Form) -> Way:
        """The step as a CUDA graph: launched at once, however many kernels it has. What it gives is overwritten by the
        next call; callers on the same stream see each in its turn.
        """
        frames = raw.clone()
        here, aside = torch.cuda.current_stream(raw.device), torch.cuda.Stream(raw.device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):  # libraries choose and allocate on their first runs, which must not be captured
            for _ in range(2):
                step(frames, form)
        here.wait_stream(aside)
        # One pool for all graphs, since one runs at a time and none reads what another left: else each shape would
        # hold memory of its own. Others may build meanwhile.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=aside, capture_error_mode="thread_local"):
                output = step(frames, form)
        finally:
            torch.cuda.set_stream(here)  # a capture that failed leaves its own behind

        def replay(raw: Tensor, form: Form) -> Output:
            frames.copy_(raw)
            graph.replay()
            return output

        return replay


def powers_of_two(count: int) -> list[int]:
    """The binary digits of a number, largest first.

    >>> powers_of_two(7)
    [4, 2, 1]
    """
    return [1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]
