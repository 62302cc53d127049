import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_node.training import pools
from cloud_node.training.pools import (
    DataError,
    Photos,
    commercial,
    dark_files,
    files,
    photos,
    pool_of,
    read,
    sice_pairs,
    split,
    trainable,
    training_pools,
)


def drive(number: int, frame: int) -> Path:
    return Path(f"plates_ro/images/dayride_type1_{number:03}_{frame}.jpg")


def save(path: Path, level: int = 120, size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


@pytest.mark.parametrize("size", [(64, 4000), (4000, 64), (33, 9000), (1300, 2600)])
def test_large_photographs_are_reduced_but_not_below_the_smallest_side(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = read(save(tmp_path / "wide.png", size=size)).rgb.shape[:2]
    assert min(height, width) >= 32 and (max(height, width) == 1280 or min(height, width) == 32)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)


def test_plates_are_split_by_time_not_by_name() -> None:
    frames = [drive(1, n) for n in (99, 936, 1000, 1001, 1123, 1124, 1472)] + [drive(2, 5)]
    train, evaluation = split("plates_ro", frames, dark=frozenset({drive(1, 936).name, drive(1, 1124).name}))
    assert train == [drive(1, 99), drive(1, 1000)]
    assert evaluation == [drive(1, 1472), drive(2, 5), drive(1, 1124)]


def test_receipts_and_scene_text_keep_their_last_ones() -> None:
    receipts = [Path(f"receipts_sroie/images/{i:03}.jpg") for i in range(100)]
    assert split("receipts_sroie", reversed(receipts)) == (receipts[:70], receipts[70:])
    words = [Path(f"scene_text/{folder}/{i}.jpg") for folder in "ab" for i in range(6)]
    assert split("scene_text", words) == (words[:4] + words[6:10], words[4:6] + words[10:])


def test_sice_is_split_by_number_and_what_lies_between_is_in_neither() -> None:
    images = [Path(f"sice512/images/{n}.jpg") for n in (9, 10, 984, 985, 1000, 1001, 2000)]
    assert split("sice512", images) == (images[:3], images[5:])
    assert split("dicm", images) == ([], sorted(images))
    assert split("photographs", images) == (sorted(images), [])


def test_splits_of_the_real_data_are_disjoint(shared_data: Path) -> None:
    for pool in pools.LICENCES:
        train, evaluation = files(shared_data, pool)
        assert not set(train) & set(evaluation)
        digests = [{path.read_bytes() for path in side} for side in (train, evaluation)]
        assert not digests[0] & digests[1]
    dark = dark_files(shared_data)
    assert [len(side) for side in dark] == [26, 35]
    train, evaluation = files(shared_data, "plates_ro")
    assert len(train) == 95 and len(evaluation) == 85
    assert not set(dark[0]) & {*train, *evaluation} and set(dark[1]) <= set(evaluation)


def test_frames_of_the_drive_lie_far_apart_across_the_split(shared_data: Path) -> None:
    """Training ends more than a hundred frames before evaluation begins; other drives are evaluation alone."""
    (bright, evaluation), (dark, dark_evaluation) = files(shared_data, "plates_ro"), dark_files(shared_data)
    number = {path: tuple(map(int, path.stem.split("_")[2:])) for path in (*bright, *dark, *evaluation)}
    assert max(number[path] for path in (*bright, *dark)) < (1, 1000)
    assert min(number[path] for path in evaluation) == (1, 1124)
    assert min(number[path] for path in dark_evaluation) == (1, 1124)
    assert [number[path] for path in dark] == sorted(number[path] for path in dark)


def test_sice_pairs_do_not_span_the_cut(shared_data: Path) -> None:
    train, evaluation = (set(side) for side in files(shared_data, "sice512"))
    pairs = sice_pairs(shared_data)
    assert len(pairs) == 99 and not train & {path for pair in pairs for path in pair}
    scenes: dict[str, set[Path]] = {}
    images = shared_data / "sice512" / "images"
    with (shared_data / "sice512" / "pairs.csv").open() as file:
        for row in csv.DictReader(file):
            scenes.setdefault(row["scene"], set()).update((images / row["low"], images / row["normal"]))
    assert len(scenes) == 159
    assert not [scene for scene, found in scenes.items() if found & train and found & evaluation]


def test_no_photograph_of_sice_shows_a_scene_of_the_other_side(shared_data: Path) -> None:
    """By content: ranks of small grey pictures, alike at any exposure, correlate above 0.94 within a scene."""

    def ranks(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            image.draft("L", (64, 64))
            small = np.asarray(image.convert("L").resize((20, 20), Image.Resampling.BOX)).ravel()
        order = small.argsort(kind="stable").argsort() - (small.size - 1) / 2
        return order / np.linalg.norm(order)

    train, evaluation = (np.stack([ranks(path) for path in side[::2]]) for side in files(shared_data, "sice512"))
    assert np.sort(train @ train.T, axis=1)[:, -2].mean() > 0.94  # the measure does find scenes
    assert (train @ evaluation.T).max() < 0.9


def test_pool_is_known_wherever_the_file_is_reached_from(tmp_path: Path) -> None:
    image = save(tmp_path / "data" / "dicm" / "images" / "01.jpg")
    (tmp_path / "link").symlink_to(image.parent)
    (tmp_path / "data" / "scene_text").symlink_to(tmp_path / "data" / "dicm")
    assert pool_of(image) == (tmp_path / "data", "dicm")
    assert pool_of(tmp_path / "link" / "01.jpg") == (tmp_path / "data", "dicm")
    assert pool_of(tmp_path / "data" / "scene_text" / "01.jpg") == (tmp_path / "data", "scene_text")
    assert pool_of(tmp_path / "data") is None


def test_evaluation_files_are_not_trainable(shared_data: Path) -> None:
    for pool in pools.LICENCES:
        train, evaluation = files(shared_data, pool)
        assert trainable([*evaluation, *train]) == train
    dark, dark_evaluation = dark_files(shared_data)
    bright, evaluation = files(shared_data, "plates_ro")
    assert trainable([*dark, *dark_evaluation, *bright, *evaluation], "low") == dark


def test_non_commercial_pools_are_told(tmp_path: Path) -> None:
    free, not_free = save(tmp_path / "plates_ro" / "a.jpg"), save(tmp_path / "sice512" / "images" / "1.jpg")
    assert commercial([free, save(tmp_path / "mine" / "b.jpg")])
    assert not commercial([free, not_free])
    assert not pools.NON_COMMERCIAL & set(pools.SHARES) and set(pools.SHARES) <= set(pools.LICENCES)
    assert {pool.name for pool in training_pools(tmp_path)} == {"plates_ro", "photographs"}
    named = training_pools(tmp_path, {"sice512": 1.0})
    assert [(pool.name, len(pool.photos)) for pool in named] == [("sice512", 1)]


def test_packaged_photographs_are_not_the_demos() -> None:
    scenes = (Path(__file__).parents[3] / "deploy" / "demo" / "scenes.py").read_text()
    assert not [entry for entry in pools.PACKAGED if Path(entry.path).name in scenes]
    assert all(read(path).rgb.size for path in pools._packaged()) and pools._packaged()


def test_a_plain_folder_with_only_evaluation_files_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "dicm" / "01.jpg")
    with pytest.raises(DataError, match="dicm holds no images to train on.*kept for evaluation"):
        training_pools(tmp_path / "dicm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        training_pools(tmp_path / "empty")


def test_large_folders_are_read_as_they_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LAZY_ABOVE", 3)
    paths = [save(tmp_path / f"{i}.png", 100 + i) for i in range(4)]
    assert isinstance(photos("three", paths[:3], read), list)
    lazy = photos("four", paths, read)
    assert isinstance(lazy, Photos) and len(lazy) == 4
    assert [int(photo.rgb[0, 0, 0]) for photo in lazy] == [100, 101, 102, 103]
    assert int(lazy[np.random.default_rng(0).integers(1, 2)].rgb[0, 0, 0]) == 101
    assert [int(photo.rgb[0, 0, 0]) for photo in lazy[-2:]] == [102, 103]
    paths.append(save(tmp_path / "tiny.png", size=(8, 8)))
    with pytest.raises(DataError, match="tiny.png is too small"):
        photos("five", paths, read)


def test_only_what_was_drawn_last_is_kept(tmp_path: Path) -> None:
    reads: list[Path] = []

    def load(path: Path) -> pools.Photo:
        reads.append(path)
        return read(path)

    paths = [save(tmp_path / f"{i}.png") for i in range(3)]
    lazy = Photos(paths, load, keep=2)
    for index in (0, 1, 0, 2, 0, 1):
        assert lazy[index].rgb.shape == (40, 48, 3)
    assert reads == [paths[0], paths[1], paths[2], paths[1]]  # 2 drove out 1, which was asked for longest ago


def test_boxes_that_are_no_numbers_name_the_line(tmp_path: Path) -> None:
    image = save(tmp_path / "images" / "a.png")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "a.txt").write_text("1,2,3,4,5,6,7,8,fine\n1,2,three,4,5,6,7,8,not\n")
    with pytest.raises(DataError, match=r"a.txt, line 2: .*three.*x1,y1"):
        read(image)
