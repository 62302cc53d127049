import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_node.evaluation.cli import main
from cloud_node.evaluation.complexity import Cost
from cloud_node.laegan import create, save


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "fast.safetensors"
    save(create("fast"), "fast", path, "fast-0", 0)
    return path


def run(data: Path, out: Path, *more: str) -> int:
    return main(["--data", str(data), "--out", str(out), "--repeats", "0", "--threads", "1", *more])


def test_a_run_leaves_tables_figures_plots_and_grids(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    niqe = tmp_path / "pristine.npz"
    np.savez(niqe, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    out = tmp_path / "out"
    ablation = tmp_path / "ablation"
    ablation.mkdir()
    save(create("fast"), "fast", ablation / "no-etam.safetensors", "fast-0", 0)
    rows = ("--row", f"mine=fast:{weights}", "--baselines", "gain to mean 0.4", "--ablation", str(ablation))
    sets = ("--sets", "pairs,plates dark,receipts 8", "--limit", "1", "--grid", "1", "--niqe", str(niqe))
    assert run(data, out, *rows, *sets) == 0

    report = (out / "report.md").read_text()
    assert report.strip() == capsys.readouterr().out.strip()
    for title in ("Targets", "Table 1", "Table 2", "Table 3", "No harm", "Mixed light"):
        assert f"## {title}" in report
    results = json.loads((out / "results.json").read_text())
    assert results["complete"] and results["tables"]
    pictures = results["pictures"]
    assert list(pictures["pairs"]) == [
        "raw",
        "gain to mean 0.4",
        "mine, first stage",
        "mine",
        "ablation: no-etam",
        "bright",
    ]
    assert len(pictures["pairs"]["mine"]) == 1
    for figures in pictures["pairs"]["raw"].values():
        assert figures["psnr"] < figures["psnr_gt_mean"]
    bright = list(pictures["receipts 8-20x"]["bright"].values())
    assert all(figures["right"] == figures["truth"] == 1 for figures in bright)  # DBNet reads made-up pages
    assert "ablation: no-etam" not in pictures["plates dark"]
    for picture in ("plots/detection.png", "plots/images.png", "grids/pairs-whole.png", "grids/plates-dark-detail.png"):
        assert (out / picture).stat().st_size > 1000 and picture in report


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        (["--baselines", "magic"], 2, "no baseline 'magic'"),
        (["--sets", "magic"], 2, "no set 'magic'"),
        (["--detector", "magic"], 2, "no detector 'magic'"),
        (["--detector-model", "x.onnx"], 2, "no model file x.onnx"),
        (["--device", "cuda:99"], 5, "--device cuda:99"),
        (["--niqe", "absent.npz"], 6, "absent.npz"),
        (["--zerodce", "absent.pth"], 6, "absent.pth"),
        (["--row", "raw=fast:absent.safetensors"], 6, "absent.safetensors"),
    ],
)
def test_what_is_wrong_is_one_line(
    data: Path, tmp_path: Path, more: list[str], code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path / "out", *more) == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and word in last


def test_two_rows_of_one_name_are_refused(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path / "out", "--row", f"raw=fast:{weights}") == 2
    assert "two rows are named 'raw'" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    assert run(data, tmp_path / "out") == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_failure_keeps_the_sets_before_it(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "dicm" / "01.jpg").write_bytes(b"nonsense")  # the last set
    out = tmp_path / "out"
    assert run(data, out, "--row", f"mine=fast:{weights}", "--baselines", "raw", "--sets", "pairs,dicm") == 3
    assert "01.jpg" in capsys.readouterr().err.splitlines()[-1]
    results = json.loads((out / "results.json").read_text())
    assert not results["complete"] and len(results["pictures"]["pairs"]["mine"]) == 2
    assert not list(out.glob("*.new"))


def test_a_network_that_cannot_be_timed_leaves_the_rest(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> list[Cost]:
        raise torch.OutOfMemoryError("no memory left\nat all")

    monkeypatch.setattr("cloud_node.evaluation.cli.costs", exhausted)
    rows = ("--row", f"mine=fast:{weights}", "--baselines", "raw", "--sets", "pairs")
    assert run(data, tmp_path / "out", *rows, "--repeats", "1") == 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert "complexity is left out, for timing failed on cpu: no memory left\n" in report and "Table 1" in report


def test_figures_and_files_that_cannot_be_had_are_one_line(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("--row", f"mine=fast:{weights}", "--baselines", "raw", "--sets")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plots").write_text("")  # where a folder must be
    assert run(data, tmp_path / "out", *rows, "pairs") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: --out {tmp_path / 'out'} cannot be written to") and "results.json" in last
    assert json.loads((tmp_path / "out" / "results.json").read_text())["complete"]

    gt = data / "receipts_sroie" / "gt" / "003.txt"  # the first that is held out
    gt.unlink()
    gt.mkdir()
    assert run(data, tmp_path / "other", *rows, "receipts bright") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {gt}: ") and "--sets" in last


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "examples:" in text and "receipts 40-120x" in text and "CLAHE" in text
