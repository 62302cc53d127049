from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_node.training.images import DataError
from cloud_node.training.recipes import RECIPES
from cloud_node.training.samples import Sampling
from cloud_node.training.sources import Sources, open_sources, stream
from cloud_node.training.unpaired import Pairs, Unpaired

SAMPLING = Sampling(batch=1, crop=64)
PAIRS, UNPAIRED = RECIPES["default"].stages[-1], RECIPES["paper"].stages[-1]


def counts(sources: Sources) -> tuple[dict[str, int], dict[str, int]]:
    low, normal = ({pool.name: len(pool.photos) for pool in pools} for pools in (sources.low, sources.normal))
    return low, normal


def test_low_and_normal_folders(tmp_path: Path, painted: Callable[..., Path]) -> None:
    low, normal = painted(tmp_path / "dark", 2, 1, (0, 20)), painted(tmp_path / "lit", 3, 2)
    sources = open_sources(None, [low], [normal])
    assert counts(sources) == ({"low": 2}, {"normal": 3}) and sources.commercial and sources.apart
    assert sources.low[0].photos[0].rgb.max() < 25  # as it is, not lit up as targets are
    unpaired = sources.stage(UNPAIRED, SAMPLING)
    assert isinstance(unpaired, Unpaired) and unpaired.darkened is None
    pairs = sources.stage(PAIRS, SAMPLING)
    assert isinstance(pairs, Pairs) and not pairs.halves


def test_a_data_folder_alone_gives_both(photos: Path) -> None:
    sources = open_sources(photos)
    assert counts(sources)[0] == {} and sources.normal[0].name == "photographs"
    unpaired = sources.stage(UNPAIRED, SAMPLING)
    assert isinstance(unpaired, Unpaired) and unpaired.darkened is not None
    low, normal = (
        {id(p) for pool in pools for p in pool.photos} for pools in (unpaired.darkened.pools, sources.normal)
    )
    assert low < normal and not low & {id(p) for pool in unpaired.normal.pools for p in pool.photos}
    played = RECIPES["default"].changed({"adversarial_global": 1.0}).stages[-1]
    pairs = sources.stage(played, SAMPLING)
    assert isinstance(pairs, Pairs) and len(pairs.halves) == 2


def test_folders_join_the_data_folder(tmp_path: Path, photos: Path, painted: Callable[..., Path]) -> None:
    sources = open_sources(photos, [painted(tmp_path / "dark", 2, 1)], [painted(tmp_path / "lit", 3, 2)])
    assert counts(sources) == ({"low": 2}, {"photographs": 4, "normal": 3})


def test_both_lights_of_one_data_set_share_no_scene(tmp_path: Path, painted: Callable[..., Path]) -> None:
    for light, seed in (("low", 1), ("high", 2)):
        for number, path in enumerate(sorted(painted(tmp_path / "LOL" / "our485" / light, 4, seed).iterdir())):
            path.rename(path.with_name(f"{number}.png"))
    assert counts(open_sources(None, [tmp_path / "LOL"], [tmp_path / "LOL"])) == ({"low": 2}, {"normal": 2})


def test_low_light_that_is_the_data_folder_itself_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match=r"stand byte for byte in normal light too"):
        open_sources(photos, [photos])
    with pytest.raises(DataError, match="no normal light to learn from"):
        open_sources(None, [photos])


def test_non_commercial_photographs_are_noticed(tmp_path: Path, photos: Path, painted: Callable[..., Path]) -> None:
    sice = painted(tmp_path / "sice512" / "images", 1).parent
    (sice / "images" / "0-0.png").rename(sice / "images" / "12.png")
    sources = open_sources(photos, normal=[sice])
    assert not sources.commercial and "non-commercial" in sources.describe()
    assert not open_sources(sice / "images").commercial
    assert open_sources(photos).commercial


def test_real_dark_frames_of_the_data_are_low_light(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.training.pools.LAZY_ABOVE", 0)
    low, normal = counts(open_sources(shared_data))
    assert low["plates_ro"] > 10 and normal["receipts_sroie"] > 10


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_gives_the_steps_asked_for(photos: Path, workers: int) -> None:
    dataset = open_sources(photos).stage(PAIRS, SAMPLING)
    batches = list(stream(dataset, range(2, 4), workers, pin=False))
    assert [batch.low.tolist() for batch in batches] == [dataset[step].low.tolist() for step in (2, 3)]
