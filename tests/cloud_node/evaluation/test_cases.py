from pathlib import Path

import numpy as np
import pytest

from cloud_node.evaluation.cases import SETS, read_image, read_sets, thinned
from cloud_node.training.pools import files
from common.errors import SettingsError, SourceError


def sets(data: Path, *wanted: str, limit: int = 0) -> dict[str, list]:
    return {one.name: list(one.cases) for one in read_sets(data, wanted, limit, lambda _: None)}


def test_every_set_is_found_and_read(data: Path) -> None:
    found = sets(data)
    assert list(found) == list(SETS)
    sizes = {name: len(cases) for name, cases in found.items()}
    assert sizes["receipts 8-20x"] == sizes["receipts 40-120x"] == sizes["receipts bright"] == 30
    assert (sizes["plates dark"], sizes["plates bright"], sizes["scene text bright"]) == (1, 2, 1)
    assert (sizes["pairs"], sizes["dicm"]) == (2, 1)


def test_dark_receipts_have_a_bright_twin_and_repeat(data: Path) -> None:
    case = sets(data, "receipts 40")["receipts 40-120x"][7]
    one, again = case.read(), case.read()
    np.testing.assert_array_equal(one.low, again.low)
    assert one.bright is not None and one.low.mean() < one.bright.mean() / 3
    assert len(one.truth) == 1


def test_no_picture_is_one_of_training(data: Path) -> None:
    trained = {path.name for pool in ("receipts_sroie", "plates_ro", "sice512") for path in files(data, pool)[0]}
    assert trained
    for name, cases in sets(data, "receipts", "plates", "pairs").items():
        for case in cases:
            assert not trained & set(case.name.split()), name


def test_scene_text_keeps_what_does_not_count(data: Path) -> None:
    [case] = sets(data, "scene")["scene text bright"]
    assert [outline.counts for outline in case.read().truth] == [True, False]


def test_a_set_that_is_absent_is_left_out_with_a_word(tmp_path: Path, data: Path) -> None:
    words: list[str] = []
    (data / "dicm").rename(tmp_path / "away")
    found = read_sets(data, ["dicm", "pairs"], 0, words.append)
    assert [one.name for one in found] == ["pairs"]
    assert words == [f"set 'dicm' is left out: its photographs are not in {data}"]


def test_nothing_to_measure_and_unknown_sets_are_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(SettingsError, match="nothing to measure"):
        read_sets(tmp_path / "nowhere", [], 0, lambda _: None)
    with pytest.raises(SettingsError, match="no set 'recipes'"):
        read_sets(data, ["recipes"], 0, lambda _: None)


def test_thinning_is_even(data: Path) -> None:
    cases = sets(data, "receipts bright")["receipts bright"]
    assert [case.name for case in thinned(cases, 3)] == [cases[0].name, cases[10].name, cases[20].name]
    assert thinned(cases, 0) == thinned(cases, 99) == cases


def test_broken_lists_and_pictures_are_named(data: Path) -> None:
    (data / "dicm" / "01.jpg").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match=r"01\.jpg"):
        read_image(data / "dicm" / "01.jpg")
    (data / "sice512" / "pairs.csv").write_text("low,high\n1,2\n")
    with pytest.raises(SourceError, match="no column normal, scene"):
        read_sets(data, ["pairs"], 0, lambda _: None)
    (data / "sice512" / "pairs.csv").write_text("low,normal,scene\n1.jpg,2.jpg,3\n4.jpg,5.jpg,many\n")
    with pytest.raises(SourceError, match=r"pairs\.csv, line 3: scene 'many'"):
        read_sets(data, ["pairs"], 0, lambda _: None)
    (data / "sice512" / "pairs.csv").write_text("scene,low,normal\n3,4.jpg\n")
    with pytest.raises(SourceError, match=r"pairs\.csv, line 2: it names no low and normal"):
        read_sets(data, ["pairs"], 0, lambda _: None)
    (data / "plates_ro" / "luminance.csv").write_text("image\n1.jpg\n")
    with pytest.raises(SourceError, match=r"luminance\.csv: it has no column dark"):
        read_sets(data, ["plates"], 0, lambda _: None)
    (data / "scene_text" / "icdar2015_10" / "textdet_test.json").write_text('{"data_list": [{}]}')
    with pytest.raises(SourceError, match=r"textdet_test\.json"):
        read_sets(data, ["scene"], 0, lambda _: None)


def test_grey_deep_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    from PIL import Image

    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (20, 10)).save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png").shape == (10, 20, 3)


def test_pairs_of_one_scene_are_a_group_and_others_their_own(data: Path) -> None:
    table = data / "sice512" / "pairs.csv"
    first = table.read_text().splitlines()[2]
    table.write_text(table.read_text() + first.replace(first.split(",")[0], "7.jpg", 1) + "\n")
    one, other, again = sets(data, "pairs")["pairs"]
    assert one.group == again.group != other.group and one.name != again.name
    [photo] = sets(data, "dicm")["dicm"]
    assert photo.group == photo.name
