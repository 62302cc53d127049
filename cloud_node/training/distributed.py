"""Several processes that train one network together, one for each GPU, as torchrun starts them.

Each draws other samples; gradients are averaged, so all of them hold the same weights after every step.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

SEEDS_APART = 1_000_003  # between the processes' seeds


@dataclass(frozen=True)
class Group:
    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # of this process

    def seed(self, seed: int) -> int:
        """The seed of this process's samples; the first process's is the seed itself."""
        return seed + SEEDS_APART * self.rank

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes; one that is absent counts as 0."""
        if self.size == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        for parameter, mean in zip(parameters, self._mean(gradients), strict=True):
            parameter.grad = mean

    def average_values(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of floating point, such as running statistics, by their mean over the processes."""
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.size > 1 and floating:
            with torch.no_grad():
                for tensor, mean in zip(floating, self._mean(floating), strict=True):
                    tensor.copy_(mean)

    def agree(self, value: float) -> float:
        """The first process's value, in all of them: clocks differ, and all must stop at the same step."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def _mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """One message for all of them."""
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK) describe; without them, a group of one.

    CUDA processes talk through NCCL and take the GPU of their local rank; processes on the CPU through gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
