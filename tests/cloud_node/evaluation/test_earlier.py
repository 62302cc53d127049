import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_node.evaluation.cli import main
from cloud_node.laegan import create, save


def run(data: Path, out: Path, *more: str) -> int:
    weights = out.with_suffix(".safetensors")
    save(create("zero-dce-low"), "zero-dce-low", weights, "zero-dce-low-0", 0)
    sets = ("--sets", "pairs", "--limit", "1", "--repeats", "0", "--grid", "0", "--threads", "1")
    return main(["--data", str(data), "--out", str(out), "--row", f"mine=zero-dce-low:{weights}", *sets, *more])


@pytest.fixture
def before(data: Path, tmp_path: Path) -> Path:
    assert run(data, tmp_path / "before", "--baselines", "gamma 0.4,CLAHE") == 0
    return tmp_path / "before" / "results.json"


def changed(path: Path, change: Callable[[dict], None]) -> None:
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))


def test_rows_of_an_earlier_run_join_the_tables(data: Path, before: Path, tmp_path: Path) -> None:
    changed(before, lambda results: results["pictures"]["pairs"]["CLAHE"].update(another={"psnr": 1.0}))
    assert run(data, tmp_path / "out", "--baselines", "gain to mean 0.4,gamma 0.4", "--earlier", str(before)) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    mine = ["mine, first stage", "mine"]
    assert [row["name"] for row in results["rows"]] == ["raw", "CLAHE", "gain to mean 0.4", "gamma 0.4", *mine]
    pairs = results["pictures"]["pairs"]
    assert list(pairs["CLAHE"]) == list(pairs["raw"])  # and no picture more
    [table] = [table for table in results["tables"] if "CLAHE" in table.get("rows", {})][:1]
    assert table["rows"]["CLAHE"]["PSNR"]["value"] == pytest.approx(next(iter(pairs["CLAHE"].values()))["psnr"])
    assert "| CLAHE |" in (tmp_path / "out" / "report.md").read_text()


def test_text_that_was_found_is_compared_too(data: Path, tmp_path: Path) -> None:
    sets = ("--sets", "receipts 8")
    assert run(data, tmp_path / "before", "--baselines", "CLAHE", *sets) == 0
    earlier = ("--earlier", str(tmp_path / "before" / "results.json"))
    assert run(data, tmp_path / "out", "--baselines", "raw", *sets, *earlier) == 0
    pictures = json.loads((tmp_path / "out" / "results.json").read_text())["pictures"]["receipts 8-20x"]
    assert "CLAHE" in pictures and "hits" in next(iter(pictures["raw"].values()))


def test_other_pictures_are_not_joined(
    data: Path, before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(results: dict) -> None:
        for figures in results["pictures"]["pairs"]["raw"].values():
            figures["psnr"] += 1

    changed(before, other)
    assert run(data, tmp_path / "out", "--baselines", "raw", "--earlier", str(before)) == 0
    assert "whose dark pictures were not these" in capsys.readouterr().err
    assert "CLAHE" not in json.loads((tmp_path / "out" / "results.json").read_text())["pictures"]["pairs"]


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        (None, 3, "is no results.json of an evaluation"),
        ("{", 3, "is no results.json of an evaluation"),
        ('{"about": {"detector": "dbnet"}, "rows": [1], "pictures": {}}', 3, "is no results.json of an evaluation"),
        ('{"about": {"detector": "east"}, "rows": [], "pictures": {}}', 2, "give --detector east"),
    ],
)
def test_a_file_that_is_none(
    data: Path,
    tmp_path: Path,
    text: str | None,
    code: int,
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    assert run(data, tmp_path / "out", "--earlier", str(path)) == code
    assert word in capsys.readouterr().err.strip().splitlines()[-1]
