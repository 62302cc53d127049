"""The conversions around a network on a CPU, as one call each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cloud_node.backends.takeover import Takeover
from cloud_node.backends.tracing import tracing
from cloud_node.color import Form

RUNS = 3  # of TorchScript, which looks at the first and optimises at the second


class Traced:
    """A `Step` whose conversions are traced, in the background, for shapes that come again.

    Each operation of torch gives the GIL away and waits to have it back. Around the network there are some sixty for a
    batch; beside threads that receive and send, the waiting took longer than the work. TorchScript waits once.

    Args:
        network: (B, 3, H, W) -> the same, and is left as it is.
        before: bytes of images of one form -> what goes into the network.
        after: that, and what came out -> the step's output.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        before: Callable[[Tensor, Form], Tensor],
        after: Callable[[Tensor, Tensor, Form], tuple[Tensor, Tensor]],
    ) -> None:
        self._network = network
        self._before = Takeover(f"{name}, conversion in", before, partial(_traced, before))
        self._after = Takeover(f"{name}, conversion out", after, partial(_traced, after))

    def __call__(self, raw: Tensor, form: Form) -> tuple[Tensor, Tensor]:
        low = self._before((len(raw), form), raw, form)
        return self._after((len(raw), form), low, self._network(low), form)

    def wait(self) -> None:
        """Until nothing is being traced."""
        self._before.wait()
        self._after.wait()


def _traced(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    *tensors, form = arguments
    examples = tuple(torch.zeros_like(tensor) for tensor in tensors)  # these belong to the other thread
    with tracing():  # sizes become constants: there is a trace for each
        traced = torch.jit.trace(lambda *tensors: function(*tensors, form), examples, check_trace=False)
        for _ in range(RUNS):
            traced(*examples)
    return lambda *arguments: traced(*arguments[:-1])
