import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cloud_node.training import cli
from cloud_node.training.cli import main, parser
from cloud_node.training.loop import Stopped, Trainer
from cloud_node.training.options import device_of, settings_of
from cloud_node.training.running import run
from cloud_node.training.settings import Settings, fitting
from cloud_node.training.sources import open_sources
from common.errors import DeviceError

TINY = ["--preset", "edge", "--batch", "1", "--crop", "64", "--workers", "0", "--device", "cpu"]


def command(*given: str) -> list[str]:
    return [*TINY, "--threads", str(torch.get_num_threads()), *given]


def test_command_trains_resumes_and_refuses_another_recipe(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = command("--data", str(photos), "--out", str(tmp_path / "out"), "--steps", "2")
    assert main(given) == 0
    assert "training on photographs: 4 photographs" in (said := capsys.readouterr().out) and "edge.safetensors" in said
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "this training is finished: choose another --out, or start from its weights with --from" in said
    assert "resuming" not in said
    assert main([*given, "--with", "etam=0.1"]) == 1
    assert "is a training of terms" in capsys.readouterr().err


def test_flags_become_settings(tmp_path: Path) -> None:
    def made(*given: str) -> Settings:
        return settings_of(parser().parse_args(["--data", "d", "--out", "o", *given]))

    default = made()
    assert default.recipe.stages[-1].rate == 8e-4 and (default.sampling.batch, default.sampling.crop) == (8, 128)
    assert default.bf16 and default.attention and default.recipe.averaging == 0.999
    changed = made(
        "--with", "edge=0.5", "--with", "etam", "--without", "tone", "--edge-loss", "paper", "--rate", "1e-5"
    )
    terms = changed.recipe.stages[-1].terms
    assert (terms["edge"], terms["etam"], "tone" in terms) == (0.5, 1, False)
    assert (changed.recipe.edge, changed.recipe.etam, changed.recipe.stages[-1].rate) == ("paper", "contrast", 1e-5)
    paper = made("--recipe", "paper", "--preset", "paper", "--etam", "contrast")
    assert [stage.name for stage in paper.recipe.stages] == ["zero-dce", "unpaired"] and paper.recipe.etam == "contrast"
    assert not made("--precision", "fp32", "--attention", "off").bf16
    (tmp_path / "a.ttf").touch()
    (tmp_path / "DejaVuMath.ttf").touch()
    assert made("--fonts", str(tmp_path)).sampling.fonts == (tmp_path / "a.ttf",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--data", "d", "--crop", "100"], "--crop must be a multiple of 32"),
        (["--data", "d", "--minutes", "0"], "--minutes and --batch must be above 0"),
        (["--data", "d", "--rate", "nan"], "--rate must be a number above 0, not nan"),
        (["--data", "d", "--rate", "0"], "--rate must be a number above 0, not 0"),
        (["--data", "d", "--save-every", "0"], "--save-every must be above 0 seconds, not 0"),
        (["--data", "d", "--save-every", "nan"], "--save-every must be above 0 seconds, not nan"),
        (["--data", "d", "--seed", "-1"], "--seed must be from 0 to 2147483647, not -1"),
        (["--data", "d", "--seed", "2147483648"], "--seed must be from 0 to 2147483647"),
        (["--data", "d", "--out", __file__], "test_cli.py is a file: give a folder"),
        (["--low", "d"], "give --data DIR, or --low DIR and --normal DIR"),
        (["--data", "d", "--unpaired"], "give --low DIR"),
        (["--data", "d", "--with", "gloss=1"], "there is no term 'gloss'; choose of spatial,"),
        (["--data", "d", "--with", "etam=much"], "TERM=WEIGHT is needed"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--out", "o", *given])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--recipe", "paper", "--with", "tone=1"], 2, "never sees pairs"),
        (["--device", "nowhere"], 1, "--device nowhere cannot be used"),
        (["--from", "absent.safetensors"], 1, "there is no file absent.safetensors"),
        (["--teacher", "fast:absent.safetensors"], 1, "there is no file absent.safetensors"),
        (["--detector", "east", "--with", "etam=1"], 2, "the east detector needs a model file"),
        (["--vgg", "absent.pth", "--with", "sfp_global=1"], 1, "there is no weights file absent.pth"),
        (["--detector-model", "absent.onnx"], 1, "absent.onnx"),
    ],
)
def test_what_cannot_be_used_is_told(
    given: list[str], code: int, message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("--data", str(photos), "--out", str(tmp_path / "out"), *given)) == code
    assert message in (said := capsys.readouterr().err) and said.startswith("error: ")


def test_an_out_that_is_no_folder_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").touch()
    assert main(command("--data", str(photos), "--out", str(tmp_path / "out" / "below"))) == 1
    assert "below cannot be a folder: Not a directory. Choose another one" in (said := capsys.readouterr().err)
    assert said.startswith("error: --out")


def test_unpaired_adds_a_stage_to_the_default_recipe_only() -> None:
    def stages(*given: str) -> list[str]:
        args = parser().parse_args(["--out", "o", *given])
        return [stage.name for stage in fitting(settings_of(args)).stages]

    low = ("--low", "l", "--normal", "n", "--unpaired")
    assert stages(*low) == ["pairs", "unpaired"] and stages("--data", "d") == stages(*low[:-1]) == ["pairs"]
    assert stages(*low, "--from", "w") == stages(*low, "--teacher", "edge") == ["pairs", "unpaired"]
    assert stages(*low, "--preset", "paper") == ["zero-dce", "pairs", "unpaired"]
    assert stages(*low, "--preset", "paper", "--recipe", "paper", "--from", "w") == ["unpaired"]
    changed = settings_of(parser().parse_args(["--out", "o", *low, "--with", "tone=2", "--rate", "1e-5"])).recipe
    assert (changed.stages[-2].terms["tone"], changed.stages[-2].rate) == (2, 1e-5)
    assert "one stage more after 'pairs'" in parser().format_help()


@pytest.mark.parametrize(
    ("given", "unused"), [((), True), (("--unpaired",), False), (("--recipe", "paper"), False)], ids=str
)
def test_dark_photographs_that_are_not_learned_from_are_told(
    given: tuple[str, ...],
    unused: bool,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "train", lambda *_: None)
    low = tmp_path / "low"
    low.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (96, 96), (9, 8, 7)).save(low / name)
    folders = ("--low", str(low), "--normal", str(photos))
    assert main(command(*folders, "--out", str(tmp_path / "out"), *given)) == 0
    assert ("not learned from" in capsys.readouterr().out) == unused


@pytest.mark.parametrize("content", [None, b"not a picture"])
def test_command_names_what_is_wrong_with_the_data(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if content:
        (data / "broken.png").write_bytes(content)
    assert main(command("--data", str(data), "--out", str(tmp_path / "out"))) == 2
    message = capsys.readouterr().err
    assert ("broken.png" if content else "holds no images") in message and str(data) in message


def test_a_signal_stops_after_the_step_and_saves(photos: Path, tmp_path: Path, small: Callable[..., Settings]) -> None:
    class Signalled(Trainer):
        def _average(self) -> None:
            super()._average()
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        run(Signalled(small(9), open_sources(photos), tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before
    assert Trainer(small(9), open_sources(photos), tmp_path).progress.step == 1


def test_devices_are_checked() -> None:
    assert device_of("cpu") == torch.device("cpu")
    assert device_of("").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(DeviceError, match="--device cuda:77 cannot be used: .*Give cpu"):
        device_of("cuda:77")
