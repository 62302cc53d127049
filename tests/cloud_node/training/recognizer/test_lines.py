"""What the recogniser is taught with: which files, which lines, and the one command from photographs to weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from cloud_node.training.cli import main
from cloud_node.training.images import DataError
from cloud_node.training.recognizer import crops, pages
from cloud_node.training.recognizer.crops import KEPT, RATIO, VIEWS, Line, darkened, load, save
from cloud_node.training.recognizer.pages import LATIN, LEFT_OUT, Page
from cloud_node.training.recognizer.prepare import Amount, prepare, reminders
from common.onnx_overlay import read_overlay
from common.text_recognition import CTCRecognizer

Receipts = Callable[[Path, Page, int], Path]
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def test_neither_what_is_held_out_nor_each_seventh_is_trained_on(
    tmp_path: Path, page: Page, receipts: Receipts
) -> None:
    data = receipts(tmp_path, page, 46)  # 30 of them are for evaluation
    names = [path.stem for path in pages.photographs(data)]
    assert sorted(names) == [f"{n:03d}" for n in range(16) if n % LEFT_OUT] and LEFT_OUT == 7
    assert {"EXIT", "TOTAL", "26/11/2018"} <= set(pages.words(data))
    with pytest.raises(DataError, match="holds no receipts_sroie"):
        pages.photographs(tmp_path / "nowhere")


def test_the_dark_is_dark_and_its_seed_repeats_it(page: Page) -> None:
    first, again = (darkened(page.rgb, np.random.default_rng(7)) for _ in range(2))
    assert (first == again).all() and first.shape == page.rgb.shape and first.dtype == np.uint8
    means = [darkened(page.rgb, np.random.default_rng(seed)).mean() for seed in range(12)]
    assert len(set(means)) == 12 and np.median(means) < page.rgb.mean() / 2 and RATIO[0] > 1


def test_lines_have_all_views_and_what_the_teacher_reads(
    made: list[Line], teacher: CTCRecognizer, tmp_path: Path
) -> None:
    assert len(made) == 6
    read = set()
    for line in made:
        assert {line.views[name].shape for name in VIEWS} == {(48, line.width, 3)}
        assert line.letters.shape == line.probabilities.shape == (line.width // 8, KEPT)
        seen = np.zeros((len(line.letters), len(teacher.letters)), np.float32)
        np.put_along_axis(seen, line.letters, line.probabilities, axis=1)
        read.add(teacher.decode(seen).text)
    assert {"EXIT 42", "Platform", "TOTAL", "CASH"} <= read
    save(tmp_path / "page.npz", made)
    assert [path.name for path in tmp_path.iterdir()] == ["page.npz"]
    for line, back in zip(made, load(tmp_path / "page.npz"), strict=True):
        assert all((line.views[name] == back.views[name]).all() for name in VIEWS)
        assert (line.letters == back.letters).all()
        np.testing.assert_allclose(line.probabilities, back.probabilities, atol=1e-3)


def test_written_pages_say_what_both_font_and_recogniser_know(teacher: CTCRecognizer) -> None:
    faces = pages.faces([FONTS], teacher.letters)
    assert faces and all(set(face.plain) == set(LATIN) for face in faces)
    known = set(teacher.letters)
    assert all(known >= set(face.others) for face in faces)
    page = pages.written("one", np.random.default_rng(0), faces, ["CASH", "TOTAL"])
    assert page.rgb.shape == (pages.HEIGHT, pages.WIDTH, 3) and len(page.outlines) >= 5
    read = [teacher.spell(page.rgb, outline).score for outline in page.outlines]
    assert np.median(read) > 0.8
    inside = np.array(page.outlines)
    assert inside.min() >= 0 and inside[..., 0].max() <= pages.WIDTH and inside[..., 1].max() <= pages.HEIGHT


def test_fonts_with_many_letters_have_their_share_however_few_they_are(teacher: CTCRecognizer) -> None:
    [face] = [face for face in pages.faces([FONTS], teacher.letters) if face.path.name == "DejaVuSans.ttf"]
    greek = replace(face, others=tuple("ΑΒΓΔΕΖΗΘ" * (pages.MANY // 8 + 1)))
    fonts = [face] * 30 + [greek]
    drawn: list[str] = []
    line = pages._line

    def noted(rng: np.random.Generator, chosen: pages.Face, vocabulary: list[str]) -> str:
        drawn.append("many" if chosen is greek else "few")
        return line(rng, chosen, vocabulary)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_line", noted)
        for seed in range(12):
            pages.written("page", np.random.default_rng(seed), fonts, ["CASH"])
    assert pages.MANY_SHARE / 2 < drawn.count("many") / len(drawn) < 2 * pages.MANY_SHARE


def test_reminders_are_bright_lines_of_written_pages(tmp_path: Path, page: Page, receipts: Receipts) -> None:
    data = receipts(tmp_path / "data", page, 31)
    kept = reminders(data, [FONTS], Amount(reminders=1), 0)
    assert kept and all(crop.shape[0] == 48 and crop.std() > 3 for crop in kept)
    assert not reminders(data, [], Amount(reminders=1), 0)


def test_a_broken_font_is_left_out_with_a_word(tmp_path: Path, teacher: CTCRecognizer) -> None:
    whole = (FONTS / "DejaVuSans.ttf").read_bytes()
    for name, content in (("whole", whole), ("cut", whole[: len(whole) // 2]), ("none", b"no font")):
        (tmp_path / f"{name}.ttf").write_bytes(content)
    said: list[str] = []
    assert [face.path.name for face in pages.faces([tmp_path], teacher.letters, said.append)] == ["whole.ttf"]
    assert [line.split(" is left out")[0] for line in said] == [str(tmp_path / f"{n}.ttf") for n in ("cut", "none")]


def test_one_command_makes_weights_that_read(
    tmp_path: Path, page: Page, receipts: Receipts, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = receipts(tmp_path / "data", page, 33), tmp_path / "out"
    flags = ["--data", str(data), "--out", str(out), "--fonts", str(FONTS), "--times", "1", "--written", "1"]
    flags += ["--reminders", "1"]
    course = ["--steps", "2", "--batch", "2", "--rate", "1e-5"]
    assert main(["recognizer", *flags, *course]) == 0
    assert "wrote" in capsys.readouterr().out
    assert len(list((out / "lines").glob("receipts_sroie-*.npz"))) == 2 and read_overlay(out / "dark.npz")
    recognizer = CTCRecognizer(out / "dark.npz", threads=1)
    recognizer.load()
    assert recognizer.spell(page.rgb, page.outlines[0]).text == "EXIT 42"
    assert main(["recognizer", *flags, *course, "--start", str(out / "dark.npz")]) == 0
    stamps = {path: path.stat().st_mtime_ns for path in (out / "lines").iterdir()}
    assert main(["recognizer", *flags, *course]) == 0  # the lines are not made again
    assert {path: path.stat().st_mtime_ns for path in (out / "lines").iterdir()} == stamps


def test_neither_broken_lines_nor_those_of_another_seed_or_font_are_taken(
    tmp_path: Path, page: Page, receipts: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder, amount, said = (
        receipts(tmp_path / "data", page, 33),
        tmp_path / "lines",
        Amount(1, 1, lines=2),
        list[str](),
    )
    prepare(data, [FONTS], folder, amount, 0, said.append)
    cut, empty = sorted(folder.glob("receipts_sroie-*.npz"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    empty.write_bytes(b"")  # as a power cut leaves it
    assert prepare(data, [FONTS], folder, amount, 0, said.append)
    assert sum("it is made again" in line for line in said) == 2 and cut.read_bytes() == whole
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "one.ttf").write_bytes((FONTS / "DejaVuSans.ttf").read_bytes())
    prepare(data, [tmp_path / "fonts"], folder, amount, 1, said.append)
    names = [path.stem for path in folder.iterdir()]
    assert sorted(name.rsplit("-", 1)[1] for name in names) == ["0", "0", "0", "1", "1", "1"]
    assert len({name.split("-")[1] for name in names if name.startswith("written")}) == 2
    before, other = set(names), (FONTS / "DejaVuSans-Bold.ttf").read_bytes()
    (tmp_path / "fonts" / "one.ttf").write_bytes(other)  # of the same name
    prepare(data, [tmp_path / "fonts"], folder, amount, 1, said.append)
    [written] = {path.stem for path in folder.iterdir()} - before
    assert written.startswith("written-"), "photographs have no font"
    monkeypatch.setattr(crops, "DROWNED", crops.DROWNED + 0.5)
    prepare(data, [tmp_path / "fonts"], folder, amount, 1, said.append)
    assert len({path.stem for path in folder.iterdir()} - before) == 4, "nor are those of other rules"


def test_what_cannot_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recognizer", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no receipts_sroie" in capsys.readouterr().err
    for flag, wrong, said in (("--steps", "0", "must be above 0"), ("--keep", "nan", "must be 0 or more")):
        with pytest.raises(SystemExit):
            main(["recognizer", "--data", str(tmp_path), flag, wrong])
        assert f"{flag} {wrong} {said}" in capsys.readouterr().err
    assert main(["recognizer", "--data", str(tmp_path), "--start", str(tmp_path / "none.npz")]) == 1
    assert "none.npz cannot be read as weights" in capsys.readouterr().err
