import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import SettingsError
from common.frame import Outcome, Region, Route
from edge_node.sinks import AnnotatedImages, Shown
from edge_node.sinks.annotated_images import safe_stem
from edge_node.sinks.drawing import BOX, LONGEST_LABEL, annotate, caption_facts, fit, label_of


def test_a_picture_a_frame(tmp_path: Path, make_shown) -> None:
    sink = AnnotatedImages(tmp_path / "annotated")
    sink.write(make_shown(1, size=(400, 300)))
    sink.write(make_shown(2, size=(400, 300), name="clip.mp4#17", outcome=Outcome.EXPIRED))
    sink.close()
    assert sorted(p.name for p in (tmp_path / "annotated").iterdir()) == [
        "000001-s1-street1.jpg",
        "000002-s1-clip.mp4_17.jpg",
    ]
    for path in (tmp_path / "annotated").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.width) == ("JPEG", 802)
            assert image.height > 300


def test_dark_left_enhanced_right_with_boxes(make_shown) -> None:
    shown = make_shown(size=(400, 300))
    canvas = annotate(shown)
    assert canvas is not None
    np.testing.assert_array_equal(canvas[:300, :400].reshape(-1), shown.dark.data)
    right = canvas[:300, 402:802]
    np.testing.assert_array_equal(right[100:], shown.enhanced[100:])
    assert (right[5, 10:40] == BOX).all(axis=1).mean() > 0.9
    assert (right[20, 10:40] == BOX).all(axis=1).mean() > 0.9
    assert not (canvas[:300, :400] == BOX).all(axis=2).any()


def test_one_panel_where_there_is_one_picture(make_shown) -> None:
    shown = make_shown(size=(400, 300))
    assert annotate(Shown(shown.reading, shown.enhanced, None)).shape[1] == 400
    assert annotate(Shown(shown.reading, None, None)) is None
    failed = make_shown(size=(400, 300), outcome=Outcome.FAILED)
    assert annotate(failed).shape[1] == 802


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 500), (500, 3), (4000, 300)])
def test_any_size(make_shown, size: tuple[int, int]) -> None:
    canvas = annotate(make_shown(size=size))
    assert canvas is not None
    assert canvas.dtype == np.uint8
    assert 360 <= canvas.shape[1] <= 2 * 1920 + 2


def test_regions_at_the_border_and_very_many(make_shown) -> None:
    edge = Region(((0.0, 0.0), (63.0, 0.0), (63.0, 47.0), (0.0, 47.0)), 1.0)
    shown = make_shown(regions=(edge,) * 500)
    assert annotate(shown) is not None
    one = replace(shown.reading, regions=(edge,))
    assert annotate(Shown(one, shown.enhanced, shown.dark)) is not None


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("street.jpg", "street"),
        ("clip.mp4#17", "clip.mp4_17"),
        ("camera 0", "camera_0"),
        ("../../etc/passwd", "etc_passwd"),
        ("rtsp://10.0.0.7:554/live", "rtsp_10.0.0.7_554_live"),
        ("C:\\photos\\a.png", "C_photos_a"),
        ("stra\u00dfe\udce9.jpg", "stra\u00dfe"),
        ("a\0b\n.jpg", "a_b"),
        ("....", "frame"),
        ("", "frame"),
    ],
)
def test_names_made_safe(tmp_path: Path, make_shown, name: str, stem: str) -> None:
    assert safe_stem(name) == stem
    AnnotatedImages(tmp_path).write(make_shown(3, name=name))
    assert [p.name for p in tmp_path.iterdir()] == [f"000003-s1-{stem}.jpg"]


def test_a_later_run_replaces_no_picture(tmp_path: Path, make_shown) -> None:
    for session in ("5f0c9a17e2b4", "0a11b2c3d4e5"):
        shown = make_shown(3, name="camera 0")
        id = replace(shown.reading.id, session=session)
        AnnotatedImages(tmp_path).write(replace(shown, reading=replace(shown.reading, id=id)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "000003-0a11b2c3-camera_0.jpg",
        "000003-5f0c9a17-camera_0.jpg",
    ]


def test_long_names_are_cut(tmp_path: Path, make_shown) -> None:
    AnnotatedImages(tmp_path).write(make_shown(1, name="\u8857" * 300 + ".jpg"))
    (path,) = tmp_path.iterdir()
    assert len(path.name.encode()) < 140


def test_captions(make_shown) -> None:
    assert caption_facts(make_shown().reading) == "standard · 1 text region · 123 ms"
    assert caption_facts(make_shown(regions=()).reading) == "standard · 0 text regions · 123 ms"
    assert caption_facts(make_shown(outcome=Outcome.EXPIRED).reading) == "standard · expired · 123 ms"
    plain = make_shown(outcome=Outcome.AS_IS, path=Route.NONE).reading
    assert caption_facts(plain) == "standard · 1 text region · as it is · 123 ms"


def test_text_is_cut_to_its_room() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(16)
    assert fit("street.jpg", font, 500) == "street.jpg"
    cut = fit("a very long name of a file\nof two lines", font, 120)
    assert cut.endswith("\u2026") and font.getlength(cut) <= 120
    assert fit("street", font, 1) == ""


def test_a_folder_that_vanishes_is_logged_once(tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "annotated"
    sink = AnnotatedImages(folder)
    folder.rmdir()
    with caplog.at_level(logging.WARNING):
        sink.write(make_shown(1))
        sink.write(make_shown(2))
        folder.mkdir()
        sink.write(make_shown(3))
    assert sink.failures.count == 2
    assert caplog.text.count("cannot write") == 1
    assert [p.name for p in folder.iterdir()] == ["000003-s1-street3.jpg"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write in"):
        AnnotatedImages(tmp_path / "file")


def test_labels_say_what_is_read_and_how_sure_that_is() -> None:
    region = Region(((60, 60), (140, 60), (140, 80), (60, 80)), 0.9)
    assert label_of(region) == "0.90"
    assert label_of(replace(region, text="EXIT", confidence=0.876)) == "EXIT 0.88"
    long = label_of(replace(region, text="x" * 200, confidence=1.0))
    assert long == "x" * (LONGEST_LABEL - 1) + "… 1.00"


def test_any_text_can_be_drawn(make_shown) -> None:
    shown = make_shown(size=(400, 300))
    plain = annotate(shown)
    for text in ("EXIT", "出口 ½ €", "<script>", "\U0001f600", "x" * 256):
        regions = tuple(replace(region, text=text, confidence=0.5) for region in shown.reading.regions)
        canvas = annotate(replace(shown, reading=replace(shown.reading, regions=regions)))
        assert canvas is not None and canvas.shape == plain.shape
        if text == "EXIT":
            assert not np.array_equal(canvas, plain)
