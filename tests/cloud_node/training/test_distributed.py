import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cloud_node.training.distributed import Group, joined

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

import torch

from cloud_node.training.distributed import joined
from cloud_node.training.loop import Trainer
from cloud_node.training.recipes import RECIPES
from cloud_node.training.samples import Sampling
from cloud_node.training.settings import Settings
from cloud_node.training.sources import open_sources

photos, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
with joined(torch.device("cpu")) as group:
    recipe = replace(RECIPES["default"].changed({"adversarial_local": 0.1}), discriminator_width=4)
    settings = Settings("edge", recipe, steps=3, sampling=Sampling(batch=1, crop=64), workers=0)
    trainer = Trainer(settings, open_sources(photos), out, group)
    first = trainer.sources.stage(trainer.recipe.stages[0], trainer.sampling)[0].low
    trainer.run()
    critics = {name: critic.state_dict() for name, critic in trainer.critics.networks.items()}
    state = {"size": group.size, "first": first, "model": trainer.model.state_dict(), "critics": critics}
    torch.save(state, out / f"rank{group.rank}.pt")
"""


def test_two_processes_hold_the_same_weights_and_see_other_samples(
    photos: Path, tmp_path: Path, free_port: int
) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port), str(script), str(photos), str(out)]
    path = os.pathsep.join(str(part) for part in (ROOT, ROOT / "proto"))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert one["size"] == other["size"] == 2
    assert not torch.equal(one["first"], other["first"])
    for part in (lambda state: state["model"], lambda state: state["critics"]["adversarial_local"]):
        for name, value in part(one).items():
            assert torch.equal(value, part(other)[name]), name
    assert torch.load(out / "checkpoint.pt", weights_only=True)["progress"]["steps"] == 3
    assert (out / "edge.safetensors").exists()


def test_one_process_alone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(torch.device("cpu")) as group:
        assert group == Group() and group.agree(0.3) == 0.3 and group.seed(5) == 5
        weight = torch.ones(2, requires_grad=True)
        weight.grad = torch.tensor([1.0, 2.0])
        group.average_gradients([weight])
        assert weight.grad.tolist() == [1, 2]
    assert Group(rank=2, size=4).seed(5) != Group(rank=3, size=4).seed(5) != 5
