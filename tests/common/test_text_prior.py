import math
from pathlib import Path

import numpy as np
import pytest

from common import text_prior as module
from common.ctc_beam import beam
from common.errors import SettingsError, WeightsError
from common.text_confidence import confidence
from common.text_prior import ORDER, TextPrior, grams_of, save, text_prior
from common.text_recognition import CTCRecognizer, Spelled, decode, sureness

LETTERS = ["", *"TOALXl0", " "]
LINE = ((0.0, 0.0), (100.0, 0.0), (100.0, 24.0), (0.0, 24.0))


def seen(*steps: dict[str, float]) -> np.ndarray:
    """(T, letters): what each step says, the rest blank."""
    made = np.zeros((len(steps), len(LETTERS)), np.float32)
    for t, step in enumerate(steps):
        for letter, p in step.items():
            made[t, LETTERS.index(letter)] = p
        made[t, 0] = 1 - made[t].sum()
    return made


DOUBTFUL = seen({"T": 0.9}, {"0": 0.55, "O": 0.4}, {"T": 0.9}, {}, {"X": 0.5, "A": 0.45}, {"L": 0.9})


def test_likelihoods_of_the_next_letter_sum_to_one_over_what_was_seen_and_fall_with_surprise() -> None:
    prior = TextPrior(grams_of(["TOTAL 12.00", "TOTAL 3.50", "TO GO"]))
    after = {letter: prior.log_likelihood(" TO", letter) for letter in "T GX"}
    assert after["T"] > after[" "] > after["G"] > after["X"]
    assert sum(math.exp(prior.log_likelihood("OTA", letter)) for letter in set("TOTAL 12.003.5G")) < 1


def test_case_does_not_count_and_a_run_ends_at_its_last_letter() -> None:
    assert grams_of(["to"]) == {" T": 1, " TO": 1, " TO ": 1}
    assert grams_of(["To  Go"]) == grams_of(["TO GO"])
    assert max(map(len, grams_of(["a long line"]))) == ORDER
    assert grams_of(["", "  "]) == {}


def test_the_prior_decides_where_the_recogniser_is_in_doubt_and_only_there() -> None:
    prior = TextPrior(grams_of(["TOTAL"] * 20))
    text, letters, share = beam(DOUBTFUL, LETTERS, prior)
    assert text == "TOTAL" and 0.5 < share <= 1
    assert letters == pytest.approx((0.9, 0.4, 0.9, 0.45, 0.9))
    sure = seen({"T": 0.99}, {"0": 0.98}, {"T": 0.99}, {}, {"X": 0.98}, {"L": 0.99})
    assert beam(sure, LETTERS, prior)[0] == "T0TXL"


def test_a_letter_twice_needs_a_blank_between() -> None:
    prior = TextPrior(grams_of(["ALL", "TALL"]))
    assert beam(seen({"A": 1}, {"L": 1}, {"L": 1}, {}), LETTERS, prior)[0] == "AL"
    assert beam(seen({"A": 1}, {"L": 1}, {}, {"L": 1}), LETTERS, prior)[0] == "ALL"


def test_a_letter_of_two_code_points_is_one_and_one_of_none_is_a_blank() -> None:
    """As dictionaries have them: a ligature, an accent that is not composed, an empty line."""
    letters, prior = ["", "A", "fi", "", "x\u0301", " "], TextPrior(grams_of(["AFIX"]))
    steps = np.array([[0.0, 0.9, 0.1, 0, 0, 0], [0, 0, 0.8, 0.2, 0, 0], [0, 0, 0.7, 0.3, 0, 0], [0.2, 0, 0, 0.8, 0, 0],
                      [0, 0, 0.9, 0, 0.1, 0], [0, 0, 0, 0, 1, 0]], np.float32)  # fmt: skip
    text, likely, _ = beam(steps, letters, prior)
    assert text == "Afifix\u0301" and likely == pytest.approx((0.9, 0.8, 0.9, 1))
    assert decode(steps, letters).letters == pytest.approx(likely)


def test_the_prior_sees_each_code_point() -> None:
    prior = TextPrior(grams_of(["AFI", "AFI"]))
    steps = np.array([[0, 1, 0, 0], [0, 0, 0.49, 0.51]], np.float32)
    assert beam(steps, ["", "A", "fi", "QZ"], prior)[0] == "Afi"


def test_a_line_of_any_length_and_one_without_numbers() -> None:
    prior = TextPrior(grams_of(["TOTAL"]))
    steps = [{"T": 0.6, "O": 0.3}, {}] * 300
    assert len(beam(seen(*steps), LETTERS, prior)[0]) > 250
    assert beam(np.zeros((5, len(LETTERS)), np.float32), LETTERS, prior)[0] == ""
    assert beam(np.full((5, len(LETTERS)), np.nan, np.float32), LETTERS, prior)[0] == ""


class Spelling(CTCRecognizer):
    def load(self) -> None:
        self._letters, self._prior = LETTERS, text_prior(self.like)


def test_the_recogniser_asks_it_for_lines_in_doubt(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Total\n" * 20)
    plain, ours = Spelling(), Spelling(like=str(tmp_path / "mine.txt"))
    plain.load(), ours.load()
    assert plain.decode_line(DOUBTFUL, LINE).text == "T0TXL"
    found = ours.decode_line(DOUBTFUL, LINE)
    assert found.text == "TOTAL" and found.share is not None and 0 < sureness(found, LINE) < 1
    sure = seen({"T": 0.999}, {"0": 0.999}, {"T": 0.999}, {}, {"X": 0.999}, {"L": 0.999})
    assert ours.decode_line(sure, LINE) == plain.decode_line(sure, LINE)


def test_text_in_a_script_that_it_does_not_know_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("出口 東京駅\n")
    other = Spelling(like=str(tmp_path / "mine.txt"))
    other.load()
    assert other.decode_line(DOUBTFUL, LINE) == Spelling.decode(other, DOUBTFUL)


def test_what_is_chosen_with_a_small_share_is_less_sure() -> None:
    letters = (0.6, 0.7, 0.6)
    assert confidence(letters, 60, 24, 0.3) < confidence(letters, 60, 24, 0.95)
    assert sureness(Spelled("", (), 0.5), LINE) == 0


def test_the_packaged_one_knows_receipts() -> None:
    prior = text_prior("receipts")
    assert prior is not None and prior.knows("total 12.50") and not prior.knows("出口")
    assert prior.log_likelihood("TOT", "A") > prior.log_likelihood("TOT", "X") + 3
    assert text_prior("none") is None


def test_it_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, grams = tmp_path / "kept.tsv.gz", grams_of(["TOTAL 1.00", "PAID"])
    save(grams, path)
    first = path.read_bytes()
    save(grams, path)
    assert path.read_bytes() == first
    monkeypatch.setitem(module.PACKAGED, "receipts", path)
    kept = text_prior("receipts")
    assert kept is not None and kept.log_likelihood("OTA", "L") == TextPrior(grams).log_likelihood("OTA", "L")
    path.write_bytes(first[:-9])
    with pytest.raises(WeightsError, match="install lamplight again"):
        text_prior("receipts")


def test_files_that_are_no_use_are_named(tmp_path: Path) -> None:
    empty, binary, huge = tmp_path / "empty.txt", tmp_path / "photo.jpg", tmp_path / "huge.txt"
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xd8\xff")
    with huge.open("wb") as file:
        file.truncate(module.MOST_BYTES + 1)
    for path, why in (
        (tmp_path / "gone.txt", "No such file.*none, receipts"),
        (tmp_path, "directory"),
        (empty, "is empty"),
        (binary, "no text in UTF-8"),
        (huge, "more than 16 MiB"),
    ):
        with pytest.raises(SettingsError, match=why):
            text_prior(str(path))
