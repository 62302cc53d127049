from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_node.training.pools import DataError, dark_files, files, read
from cloud_node.training.readers import Item, find, read_rgb, unpaired


def save(path: Path, level: int = 120) -> Path:
    """A small picture whose bytes depend on the level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 48, 3), level, np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def lol(tmp_path: Path) -> Path:
    root = tmp_path / "LOLdataset"
    for part, names in {"our485": ("2", "5", "11"), "eval15": ("1",)}.items():
        for level, light in ((10, "low"), (150, "high")):
            for name in names:
                save(root / part / light / f"{name}.png", level + int(name))
    return root


@pytest.fixture
def lol_v2(tmp_path: Path) -> Path:
    root = tmp_path / "LOL-v2"
    for part, numbers in {"Train": (1, 2), "Test": (690,)}.items():
        for light in ("Low", "Normal"):
            for number in numbers:
                save(root / "Real_captured" / part / light / f"{light.lower()}{number:05}.png", number % 200)
    return root


@pytest.fixture
def sid(tmp_path: Path) -> Path:
    root = tmp_path / "SID"
    for scene in ("00001", "00002", "10003", "20004"):
        for exposure in ("0.04s", "0.1s"):
            save(root / "Sony" / "short" / f"{scene}_00_{exposure}.ARW")
        save(root / "Sony" / "long" / f"{scene}_00_10s.ARW")
    save(root / "Fuji" / "long" / "00005_00_30s.RAF")
    return root


def scenes(items: list[Item]) -> list[str]:
    return [item.scene for item in items]


def test_plain_folder_is_read_with_its_folders(tmp_path: Path) -> None:
    for name in ("b/x.png", "a/x.jpg", "y.tif", "._y.tif"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    items = find(tmp_path, "low")
    assert scenes(items) == ["a/x", "b/x", "y"] and {item.kind for item in items} == {"plain"}
    assert items == find(tmp_path, "normal") and items[0].exposure_s is None
    assert read_rgb(items[0].path).shape == (40, 48, 3)


def test_lol_gives_its_training_part(lol: Path, lol_v2: Path) -> None:
    low, normal = find(lol, "low"), find(lol, "normal")
    assert scenes(low) == scenes(normal) == ["11", "2", "5"]
    assert {item.path.parent for item in low} == {lol / "our485" / "low"}
    assert {item.path.parent for item in normal} == {lol / "our485" / "high"}
    assert scenes(find(lol_v2, "low")) == scenes(find(lol_v2, "normal")) == ["00001", "00002"]
    assert {item.kind for item in find(lol_v2 / "Real_captured" / "Train", "low")} == {"lol"}


def test_lol_is_known_by_its_parts_too(lol: Path) -> None:
    assert find(lol / "our485" / "low", "low") == find(lol, "low")
    with pytest.raises(DataError, match="eval15 holds only lol's test and validation scenes"):
        find(lol / "eval15", "low")
    with pytest.raises(DataError, match=r"low holds no normal light: give the root of our485/\{low,high\}"):
        find(lol / "our485" / "low", "normal")


def test_sid_gives_training_scenes_with_exposures(sid: Path) -> None:
    low, normal = find(sid, "low"), find(sid, "normal")
    assert [(item.scene, item.exposure_s) for item in low] == [
        ("00001", 0.04),
        ("00001", 0.1),
        ("00002", 0.04),
        ("00002", 0.1),
    ]
    assert [(item.scene, item.exposure_s) for item in normal] == [("00005", 30.0), ("00001", 10.0), ("00002", 10.0)]
    assert find(sid / "Sony", "low") == low
    assert find(sid / "Sony" / "long", "normal") == normal[1:]
    for path in (sid / "Sony" / "long").glob("0*"):
        path.unlink()
    with pytest.raises(DataError, match="long holds only sid's test and validation scenes"):
        find(sid / "Sony" / "long", "normal")


def test_kind_overrides_what_is_recognised(lol: Path, sid: Path, tmp_path: Path) -> None:
    assert len(find(lol, "low", "plain")) == 8
    with pytest.raises(DataError, match="is not laid out as sid"):
        find(lol, "low", "sid")
    with pytest.raises(DataError, match="no reader 'lmdb'.*auto, lol, sid, plain"):
        find(lol, "low", "lmdb")
    with pytest.raises(DataError, match="holds lol and sid: give the root of one"):
        find(tmp_path, "low")
    assert {item.kind for item in find(tmp_path, "low", "sid")} == {"sid"}


def test_absent_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder .*absent"):
        find(tmp_path / "absent", "low")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"holds no images: .jpg, .*\.arw"):
        find(tmp_path, "low")


def test_scenes_of_one_root_go_to_low_and_normal_in_turn(
    lol: Path, sid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, normal = unpaired(find(lol, "low"), find(lol, "normal"))
    assert (scenes(low), scenes(normal)) == (["11", "5"], ["2"])
    assert "share 3 scenes: 2 of them are read as low light only, 1 as normal" in capsys.readouterr().err
    low, normal = unpaired(find(sid, "low"), find(sid, "normal"))
    assert (scenes(low), scenes(normal)) == (["00001", "00001"], ["00005", "00002"])
    assert "share 2 scenes" in capsys.readouterr().err
    with pytest.raises(DataError, match="no normal light is left without the 1 scenes"):
        unpaired(find(lol, "low")[:1], find(lol, "normal")[:1])


def test_different_kinds_are_taken_as_they_are(lol: Path, sid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low, normal = find(lol, "low"), find(sid, "normal")
    assert unpaired(low, normal) == (low, normal)
    assert not capsys.readouterr().err


def test_plain_folders_that_share_scene_names_are_refused(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / "dark" / f"{number}.png", number)
        save(tmp_path / "lit" / f"{number}.jpg", 200 + number)
    with pytest.raises(DataError, match=r"share 5 scene names, like 0, 1, 2 \(.*dark/0.png and .*lit/0.jpg\)"):
        unpaired(find(tmp_path / "dark", "low"), find(tmp_path / "lit", "normal"))


def test_the_same_bytes_under_another_name_are_refused(tmp_path: Path, lol: Path) -> None:
    for number in range(5):
        save(tmp_path / "dark" / f"{number}.png", number)
        save(tmp_path / "lit" / "deeper" / f"{number}.png", number if number else 99)
    with pytest.raises(DataError, match=r"4 files .*dark/1.png = .*deeper/1.png, .*2.png, .*3.png\. Remove"):
        unpaired(find(tmp_path / "dark", "low"), find(tmp_path / "lit", "normal"))
    copy = tmp_path / "mine" / "copy.png"
    copy.parent.mkdir()
    copy.write_bytes((lol / "our485" / "high" / "2.png").read_bytes())
    with pytest.raises(DataError, match=r"1 files .*copy.png = .*high/2.png"):
        unpaired(find(copy.parent, "low"), find(lol, "normal"))


def test_different_plain_folders_pass(tmp_path: Path) -> None:
    save(tmp_path / "dark" / "a.png", 1)
    save(tmp_path / "lit" / "b.png", 2)
    low, normal = find(tmp_path / "dark", "low"), find(tmp_path / "lit", "normal")
    assert unpaired(low, normal) == (low, normal)


def test_evaluation_scenes_are_never_found(shared_data: Path) -> None:
    train, evaluation = files(shared_data, "receipts_sroie")
    assert [item.path for item in find(shared_data / "receipts_sroie", "normal")] == train
    dark, bright = dark_files(shared_data)[0], files(shared_data, "plates_ro")[0]
    low, normal = find(shared_data / "plates_ro", "low"), find(shared_data / "plates_ro" / "images", "normal")
    assert {item.path for item in low} == set(dark) and {item.path for item in normal} == set(bright)
    assert unpaired(low, normal) == (low, normal)
    with pytest.raises(DataError, match="none of the 22 images under .*dicm may be trained on as low light"):
        find(shared_data / "dicm", "low")
    everything = {item.path for item in find(shared_data, "normal")}
    assert not everything & {
        path for pool in ("plates_ro", "scene_text", "sice512") for path in files(shared_data, pool)[1]
    }
    assert not everything & set(evaluation) and set(train) <= everything


def test_an_item_becomes_a_photo(shared_data: Path) -> None:
    item = find(shared_data / "plates_ro", "low")[0]
    photo = read(item.path)
    assert photo.rgb.shape == (540, 960, 3) and photo.boxes
