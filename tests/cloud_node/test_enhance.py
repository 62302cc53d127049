from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from cloud_node.enhance import plan, read, run
from common import packing
from common.errors import ImageError, SourceError


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a dark photo, one in a subfolder, a broken one and a text."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    dark = Image.fromarray((data.astronaut()[:64, :96] / 12).astype(np.uint8))
    dark.save(folder / "a.png")
    dark.save(folder / "sub" / "b.jpg", quality=95)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("not a picture either")
    return folder


def test_a_folder_keeps_its_tree_and_names_what_failed(photos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert run([str(photos), str(out), "--device", "cpu"]) == 1
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["a.png", "sub/b.jpg"]
    assert pixels(out / "a.png").mean() > 3 * pixels(photos / "a.png").mean()
    printed = capsys.readouterr()
    assert "2 of 3 images" in printed.out and "broken.jpg" in printed.err


def test_one_image(photos: Path, tmp_path: Path) -> None:
    assert run([str(photos / "a.png"), str(tmp_path / "lit.webp"), "--device", "cpu"]) == 0
    assert pixels(tmp_path / "lit.webp").shape == (64, 96, 3)


def test_16_bit_grey_keeps_its_dark_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 30), 2570, np.uint16)).save(path)
    image = read(path)
    assert set(image.data.tolist()) == {10}


def test_alpha_palette_and_rotation(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20), (10, 20, 30, 40)).save(tmp_path / "alpha.png")
    Image.new("P", (30, 20), 3).save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert [(read(tmp_path / name).width) for name in ("alpha.png", "palette.png", "turned.jpg")] == [30, 30, 20]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "RGB"])
def test_a_file_is_the_same_picture_here_and_by_the_cloud(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray((np.arange(600).reshape(20, 30) * 100).astype(np.uint16)).save(path)
    else:
        picture = Image.fromarray(data.astronaut()[:20, :30]).convert("RGBA")
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.convert(mode).save(path)
    sent = packing.EncodedImage(packing.ImageFormat.PNG, 30, 20, path.read_bytes())
    assert np.array_equal(packing.to_rgb(read(path)), packing.decode(sent))


def test_nothing_is_written_over_its_source(photos: Path) -> None:
    with pytest.raises(SourceError, match="nothing is written over"):
        plan(photos, photos)
    with pytest.raises(SourceError, match="nothing is written over"):
        plan(photos / "a.png", photos)
    assert [work.source.name for work in plan(photos, photos / "sub")] == ["a.png", "broken.jpg"]


def test_sources_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        plan(tmp_path / "nowhere.png", tmp_path / "out.png")
    with pytest.raises(SourceError, match="holds no images"):
        plan(tmp_path, tmp_path / "out")
    (tmp_path / "a.png").touch()
    with pytest.raises(SourceError, match="write to one of"):
        plan(tmp_path / "a.png", tmp_path / "out.gif2")
    with pytest.raises(ImageError, match="cannot be read"):
        read(tmp_path / "a.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "exif.png", exif=b"Exif\0\0II*\0\x08\0\0\0\x01")
    with pytest.raises(ImageError, match="cannot be read"):
        read(tmp_path / "exif.png")
