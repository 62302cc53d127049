from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cloud_node.training import ablations
from cloud_node.training.cli import main
from cloud_node.training.distributed import Group
from cloud_node.training.loop import Trainer
from cloud_node.training.options import settings_of
from cloud_node.training.recipes import RecipeError
from cloud_node.training.settings import Settings
from cloud_node.training.sources import open_sources


def command(*given: str) -> list[str]:
    threads = str(torch.get_num_threads())
    return ["--preset", "edge", "--batch", "1", "--crop", "64", "--workers", "0", "--threads", threads, *given]


def rows(*given: str) -> dict[str, Settings]:
    args = ablations.parser().parse_args(command("--data", "d", "--out", "o", *given))
    return ablations.rows(args, settings_of(args))


def test_each_row_differs_from_base_in_its_part_only() -> None:
    made = rows()
    assert tuple(made) == ablations.ROWS
    base = dict(made["base"].recipe.stages[-1].terms)
    changed = {name: dict(row.recipe.stages[-1].terms).keys() ^ base.keys() for name, row in made.items()}
    assert changed == {
        "base": set(),
        "no-attention": set(),
        "no-etam": {"etam"},
        "etam-paper": set(),
        "with-edge": {"edge"},
        "with-adversarial": {"adversarial_global", "adversarial_local", "sfp_global", "sfp_local"},
    }
    assert [row.attention for row in made.values()] == [True, False, True, True, True, True]
    assert [row.recipe.etam for row in made.values()] == ["contrast"] * 3 + ["paper"] + ["contrast"] * 2
    assert "etam" in base and "etam" not in made["no-etam"].recipe.stages[-1].terms
    assert len({row.sampling for row in made.values()}) == len({row.start for row in made.values()}) == 1


def test_non_commercial_rows_are_marked_and_not_trained_twice(
    photos: Path, tmp_path: Path, small: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    sources = replace(open_sources(photos), commercial=False)
    given = command("--data", str(photos), "--out", str(tmp_path / "out"), "--steps", "1", "--only", "base")
    args = ablations.parser().parse_args(given)
    for _ in range(2):
        ablations.train(args, settings_of(args), sources, Group())
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors")] == ["base-nc.safetensors"]
    assert capsys.readouterr().out.count("row base") == 1


def test_rows_have_no_stage_of_their_own_for_dark_photographs() -> None:
    made = rows("--low", "l", "--normal", "n")
    assert all([stage.name for stage in row.recipe.stages] == ["pairs"] for row in made.values())


def test_weights_of_added_parts_can_be_given() -> None:
    assert rows("--with", "edge=0.7")["with-edge"].recipe.stages[-1].terms["edge"] == 0.7
    assert "edge" not in rows("--with", "edge=0.7")["base"].recipe.stages[-1].terms
    with pytest.raises(RecipeError, match="has only"):
        rows("--without", "edge")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--with", "etam=0.7"], "--with etam: no row adds it; only edge, adversarial_global"),
        (["--without", "etam"], "choose rows with --only"),
        (["--etam", "paper"], "choose rows with --only"),
    ],
)
def test_what_the_rows_decide_is_not_given(given: list[str], message: str, photos: Path, tmp_path: Path) -> None:
    args = ablations.parser().parse_args(command("--data", str(photos), "--out", str(tmp_path), *given))
    with pytest.raises(RecipeError, match=message):
        ablations.train(args, settings_of(args), open_sources(photos), Group())


def test_rows_are_trained_from_the_same_start_and_not_twice(
    photos: Path, tmp_path: Path, small: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    start = Trainer(small(2), open_sources(photos), tmp_path / "start").run()
    out = tmp_path / "out"
    given = command("--data", str(photos), "--from", str(start), "--out", str(out), "--steps", "2")
    given = [
        "ablations",
        *given,
        *(part for name in ("base", "no-attention", "no-etam") for part in ("--only", name)),
    ]
    assert main(given) == 0
    assert sorted(path.name for path in out.glob("*.safetensors")) == [
        "base.safetensors",
        "no-attention.safetensors",
        "no-etam.safetensors",
    ]
    metadata = {}
    for path in out.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            metadata[path.stem] = file.metadata()
    assert metadata["no-attention"]["attention"] == "off" and "attention" not in metadata["base"]
    base, without, begun = map(load_file, (out / "base.safetensors", out / "no-attention.safetensors", start))
    assert any(not torch.equal(base[name], begun[name]) for name in base)
    assert any(not torch.equal(base[name], without[name]) for name in base)
    capsys.readouterr()
    assert main(given) == 0
    assert "row base" not in capsys.readouterr().out
