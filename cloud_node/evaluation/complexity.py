"""What networks cost: parameters, multiply-accumulates and time, all in one run on one machine.

The paper's complexity analysis. Times are taken in rounds, each network once a round, so that a change of load
falls on all of them; the figure is the median. Zero-DCE at full resolution, as published, is what the others are
held against.
"""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from cloud_node.evaluation.rows import Forward, Machine, Row, placed
from cloud_node.evaluation.zerodce import zero_dce, zero_dce_pp
from cloud_node.laegan import PRESETS, GeneratorConfig, create

COUNTED = ((256, 256), (600, 400), (1616, 1080))  # width, height
TIMED = COUNTED[1:]
PEER = "Zero-DCE"
SLOW_S = 15.0  # a network whose warm-up takes longer than this is timed by it alone; the peer never is


@dataclass(frozen=True)
class Subject:
    """A network to be measured; `network` is None for an ONNX file, whose operations are not counted."""

    name: str
    forward: Forward
    network: nn.Module | None = None


@dataclass(frozen=True)
class Cost:
    name: str
    parameters: int | None
    gmacs: dict[str, float]  # by '600x400'
    ms: dict[str, float]  # medians
    runs_ms: dict[str, list[float]] = field(repr=False)


def subjects(rows: Sequence[Row], machine: Machine) -> list[Subject]:
    """Zero-DCE and Zero-DCE++ as published, every preset of ours (trained or not), and the rows that are networks.

    A row under a preset's own name stands for it; of presets that differ in their training only, the first stands
    for all.
    """
    found = {row.name: Subject(row.name, row.forward, row.network) for row in rows if row.forward and not row.ablation}
    for name, make in ((PEER, zero_dce), ("Zero-DCE++", zero_dce_pp)):
        if name not in found:
            network = placed(make(), machine)
            found[name] = Subject(name, network, network)
    built: list[GeneratorConfig] = []
    for preset, config in PRESETS.items():
        if preset not in found and config not in built:
            ours = placed(create(preset).eval(), machine)
            found[preset] = Subject(preset, ours, ours)
        built.append(config)
    return sorted(found.values(), key=lambda subject: subject.name != PEER)


def costs(networks: Sequence[Subject], machine: Machine, repeats: int) -> list[Cost]:
    """Parameters, GMACs and median time of each, `repeats` runs after a warm-up."""
    times = {label(size): measure_ms(networks, size, machine, repeats) for size in TIMED}
    return [
        Cost(
            one.name,
            None if one.network is None else sum(p.numel() for p in one.network.parameters()),
            {} if one.network is None else {label(size): gmacs(one.network, *size) for size in COUNTED},
            {size: median(runs[one.name]) for size, runs in times.items()},
            {size: runs[one.name] for size, runs in times.items()},
        )
        for one in networks
    ]


def gmacs(network: nn.Module, width: int, height: int) -> float:
    """Billions of multiply-accumulates for one picture: half the operations that torch's counter sees.

    Counted on the meta device, which computes nothing: convolutions and matrix products, as usual.
    """
    shadow = deepcopy(network).to("meta").eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2e9


def measure_ms(
    networks: Sequence[Subject], size: tuple[int, int], machine: Machine, repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of each run of each network on one picture of width x height, by name."""
    picture = torch.rand(1, 3, size[1], size[0], generator=torch.Generator().manual_seed(0)).to(machine.device) * 0.2
    runs: dict[str, list[float]] = {one.name: [] for one in networks}
    warm = {one.name: _once(one.forward, picture) for one in tqdm(networks, desc=f"warm-up {label(size)}")}
    for _ in tqdm(range(repeats), desc=f"time {label(size)}", unit="round"):
        for one in networks:
            if one.name == PEER or warm[one.name] < SLOW_S * 1e3:
                runs[one.name].append(_once(one.forward, picture))
    return {name: taken or [warm[name]] for name, taken in runs.items()}


def label(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _once(forward: Forward, picture: torch.Tensor) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        forward(picture)
        if picture.device.type != "cpu":
            torch.accelerator.synchronize(picture.device)
    return (time.perf_counter() - started) * 1e3
