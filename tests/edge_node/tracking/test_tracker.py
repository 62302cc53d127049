"""One sign is one sight: over frames, gaps, a moving camera, late frames and jumping clocks."""

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from signs import HEIGHT, WIDTH, Sign, Watched, background, picture, region_of

from common.frame import Priority, Region
from common.pixels import Bytes
from edge_node.sights import SightSink, Tracker
from edge_node.sinks import SharedSink, TerminalLine
from edge_node.tracking import TextTracker

SCENE = background()
STREET = [Sign("EXIT", 330, 190), Sign("B 123 XYZ", 520, 250), Sign("HOTEL", 420, 340)]
CORNER = (200.0, 130.0)


def watch(
    watched: Watched, signs: list[Sign], frames: int, *, start: int = 0, camera=lambda t: CORNER, hidden=()
) -> list:
    """So many frames, ten a second; ids of each frame by the sign's text."""
    ids = []
    for k in range(start, start + frames):
        t, shown = k / 10, [sign for sign in signs if (sign.text, k) not in hidden]
        watched.now_s = 1000 + t
        found = watched.see(picture(SCENE, signs, t, camera(t)), [region_of(sign, t, camera(t)) for sign in shown])
        ids.append(dict(zip([sign.text for sign in shown], found, strict=True)))
    return ids


def test_it_is_a_tracker() -> None:
    tracker: Tracker = TextTracker()
    assert tracker.close() == () and len(tracker.session) == 12  # type: ignore[attr-defined]


def test_a_still_sign_is_one_sight_told_once() -> None:
    watched = Watched()
    ids = watch(watched, STREET, 30)
    assert all(one == ids[0] for one in ids) and len(set(ids[0].values())) == 3
    watched.close()
    sights = {sight.text: sight for sight in watched.told.values()}
    assert set(sights) == {"EXIT", "B 123 XYZ", "HOTEL"}
    sight = sights["EXIT"]
    assert sight.ended and sight.frames == 30 and sight.last_unix_ns - sight.first_unix_ns == 2_900_000_000
    assert sight.id.startswith("run-") and sight.edge == "e" and sight.confidence > 0.9
    assert sight.crop is not None and sight.crop.shape == (24, 56, 3) and sight.crop.mean() > 120
    assert len(watched.news) <= 3 * 4, "new, surer, and ended"


def test_it_is_told_at_the_second_frame_and_a_flicker_never() -> None:
    watched = Watched()
    phantom = Region(((20, 20), (70, 20), (70, 40), (20, 40)), 0.55)
    first = watched.see(picture(SCENE, STREET, 0, CORNER), [region_of(STREET[0], 0, CORNER), phantom])
    assert all(first) and not watched.told
    watched.now_s += 0.1
    watched.see(picture(SCENE, STREET, 0, CORNER), [region_of(STREET[0], 0, CORNER)])
    assert list(watched.told) == first[:1]
    watched.close()
    assert list(watched.told) == first[:1]


def test_a_sign_seen_in_one_frame_alone_is_told_when_it_ends() -> None:
    watched = Watched()
    [id] = watched.see(picture(SCENE, STREET, 0, CORNER), [region_of(STREET[0], 0, CORNER)])
    watched.close()
    assert watched.told[id].ended and watched.told[id].frames == 1


@pytest.mark.parametrize("read", [True, False])
def test_a_panning_shaking_camera_changes_nothing(read: bool) -> None:
    signs = [Sign(sign.text, sign.x, sign.y, read=read) for sign in STREET]

    def camera(t: float) -> tuple[float, float]:
        return 200 + 90 * np.sin(2 * t) + 12 * np.sin(17 * t), 130 + 14 * np.sin(21 * t)

    ids = watch(Watched(), signs, 40, camera=camera)
    assert len({frozenset(one.items()) for one in ids}) == 1


def test_moving_plates_keep_their_sights_when_they_pass_each_other() -> None:
    signs = [Sign("B 123 XYZ", 240, 230, vx=70), Sign("C 987 UVW", 600, 272, vx=-80), *STREET[:1]]
    ids = watch(Watched(), signs, 30)
    assert len({frozenset(one.items()) for one in ids}) == 1


def test_a_sign_in_the_dark_for_a_while_comes_back_as_itself() -> None:
    hidden = {("EXIT", k) for k in range(10, 35)}
    ids = watch(Watched(), STREET, 45, hidden=hidden)
    assert ids[44] == ids[0]


def test_another_sign_in_its_place_is_another_sight() -> None:
    watched = Watched()
    before = watch(watched, STREET, 15)
    other = [Sign("TAXI", STREET[0].x, STREET[0].y), *STREET[1:]]
    after = watch(watched, other, 15, start=15)
    assert after[-1]["TAXI"] != before[0]["EXIT"] and after[-1]["HOTEL"] == before[0]["HOTEL"]


def test_a_line_that_is_found_in_two_parts_stays_one_sight() -> None:
    watched, sign = Watched(), STREET[1]
    for k in range(40):
        watched.now_s = 1000 + k / 10
        whole = region_of(sign, 0, CORNER)
        (x0, y0), (x1, _), (_, y1), _ = whole.polygon
        cut = x0 + 0.4 * (x1 - x0)
        parts = [
            Region(((a, y0), (b, y0), (b, y1), (a, y1)), 0.9, text, 0.9)
            for a, b, text in ((x0, cut - 4, "B 12"), (cut + 4, x1, "3 XYZ"))
        ]
        found = watched.see(picture(SCENE, STREET, 0, CORNER), parts if k % 4 == 3 else [whole])
        assert len(set(found)) == len(found)
    watched.close()
    assert [sight.text for sight in watched.told.values()] == ["B 123 XYZ"]


def pieces_of(sign: Sign) -> list[Region]:
    (x0, y0), (x1, _), (_, y1), _ = region_of(sign, 0, CORNER).polygon
    cut = x0 + 0.4 * (x1 - x0)
    return [Region(((a, y0), (b, y0), (b, y1), (a, y1)), 0.8) for a, b in ((x0, cut - 4), (cut + 4, x1))]


def test_a_line_that_begins_in_two_pieces_is_one_sight() -> None:
    watched, sign = Watched(), Sign("B 123 XYZ", 520, 250, read=False)
    for k in range(20):
        watched.now_s = 1000 + k / 10
        watched.see(picture(SCENE, [sign], 0, CORNER), pieces_of(sign) if k < 2 else [region_of(sign, 0, CORNER)])
    watched.close()
    assert len(watched.told) == 1


def test_a_splinter_of_one_frame_is_no_sight() -> None:
    watched, sign = Watched(), Sign("B 123 XYZ", 520, 250, read=False)
    for k in range(20):
        watched.now_s = 1000 + k / 10
        watched.see(picture(SCENE, [sign], 0, CORNER), pieces_of(sign)[: 2 if k == 0 else 1])
    watched.close()
    assert len(watched.told) == 1


def test_it_ends_when_it_is_unseen_for_long_and_never_comes_back() -> None:
    watched = Watched(timeout_s=2.0)
    first = watch(watched, STREET, 5)
    watch(watched, STREET[1:], 30, start=5)
    assert watched.told[first[0]["EXIT"]].ended
    again = watch(watched, STREET, 5, start=35)
    assert again[-1]["EXIT"] != first[0]["EXIT"] and again[-1]["HOTEL"] == first[0]["HOTEL"]


def test_silence_ends_nothing_that_is_there_afterwards() -> None:
    watched = Watched(timeout_s=2.0)
    first = watch(watched, STREET, 8)
    assert watch(watched, STREET, 3, start=80) == first[:3]


def test_another_scene_ends_all() -> None:
    watched = Watched()
    watch(watched, STREET, 5)
    elsewhere = background(9)
    watched.now_s = 1000.5
    watched.see(elsewhere[:HEIGHT, :WIDTH].copy(), [Region(((9, 9), (80, 9), (80, 30), (9, 30)), 0.9, "BANK", 0.9)])
    assert len(watched.told) == 3 and all(sight.ended for sight in watched.told.values())


def test_another_shape_of_frame_ends_all_and_another_size_nothing() -> None:
    watched, region = Watched(), region_of(STREET[0], 0, CORNER)
    rgb = picture(SCENE, STREET, 0, CORNER)
    half = Region(tuple((x / 2, y / 2) for x, y in region.polygon), 0.9, "EXIT", 0.9)
    first = watched.see(rgb, [region])
    watched.now_s += 0.1
    assert watched.see(rgb[::2, ::2].copy(), [half]) == first
    watched.now_s += 0.1
    assert watched.see(rgb[:, :300].copy(), [region]) != first


def test_pictures_of_a_folder_tell_each_text_at_once() -> None:
    watched = Watched(ordered=False, live=False)
    for seed in (1, 2, 3):
        signs = [Sign(sign.text, sign.x + 30 * seed * k, sign.y - 25 * seed * k) for k, sign in enumerate(STREET)]
        rgb = picture(background(seed), signs, 0, CORNER)
        watched.see(rgb, [region_of(sign, 0, CORNER) for sign in signs])
        assert len(watched.told) == 3 * seed
    watched.see(rgb, [region_of(sign, 0, CORNER) for sign in signs])
    assert len(watched.told) == 9, "the same scene again"


def test_frames_that_come_in_another_order_are_fitted_in() -> None:
    watched, signs = Watched(), [Sign("B 123 XYZ", 260, 230, vx=60), *STREET[:1]]
    order = [0, 1, 2, 5, 3, 4, 6, 9, 7, 8, 10, 11]
    ids = []
    for k in order:
        t = k / 10
        watched.now_s = 1001 + t
        urgent = Priority.ESSENTIAL if k == 7 else Priority.STANDARD
        found = watched.see(
            picture(SCENE, signs, t, CORNER), [region_of(s, t, CORNER) for s in signs], 1000 + t, priority=urgent
        )
        ids.append(tuple(found))
    assert len(set(ids)) == 1
    watched.close()
    sight = watched.told[ids[0][0]]
    assert sight.frames == 12 and sight.priority is Priority.ESSENTIAL
    assert sight.last_unix_ns - sight.first_unix_ns == 1_100_000_000


def test_a_frame_from_the_spool_finds_the_sights_of_its_time() -> None:
    watched = Watched()
    ids = watch(watched, STREET, 60)
    late = [*STREET[:1], Sign("TAXI", 600, 380)]  # a taxi was there at second 1
    for _ in range(3):
        found = watched.see(
            picture(SCENE, [*STREET, late[1]], 0, CORNER), [region_of(s, 0, CORNER) for s in late], 1001.0
        )
        assert found[0] == ids[0]["EXIT"] and found[1] not in ids[0].values()
    assert watch(watched, STREET, 3, start=60) == ids[:3], "and those of now are not confused"
    watched.close()
    assert sum(sight.text == "TAXI" for sight in watched.told.values()) == 1


def test_frames_of_another_run_have_sights_of_their_own() -> None:
    watched = Watched()
    ids = watch(watched, STREET, 5)
    rgb, regions = picture(SCENE, STREET, 0, CORNER), [region_of(sign, 0, CORNER) for sign in STREET]
    for k in range(5):
        old = watched.see(rgb, regions, 100 + k / 10, session="before")
        assert not set(old) & set(ids[0].values())
    assert watch(watched, STREET, 1, start=5) == ids[:1]
    watched.close()
    assert len(watched.told) == 6 and {sight.frames for sight in watched.told.values()} == {5, 6}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_wall_clock_that_jumps_ends_nothing(jump_s: float) -> None:
    watched, sign = Watched(timeout_s=2.0), STREET[0]
    ids = set()
    for k in range(20):
        watched.now_s = 1000 + k / 10
        off = jump_s if k >= 10 else 0.0
        ids |= set(watched.see(picture(SCENE, STREET, 0, CORNER), [region_of(sign, 0, CORNER)], clock_off_s=off))
    watched.close()
    [sight] = watched.told.values()
    assert len(ids) == 1 and sight.last_unix_ns - sight.first_unix_ns == 1_900_000_000


def test_live_sights_are_bounded_and_so_are_strands() -> None:
    watched = Watched(most=5)
    rgb = background()[:HEIGHT, :WIDTH].copy()
    many = [
        Region(((x, y), (x + 40, y), (x + 40, y + 14), (x, y + 14)), 0.6 + x / 2000)
        for x in range(5, 420, 60)
        for y in range(5, 240, 40)
    ]
    for session in range(12):
        found = watched.see(rgb, many, session=f"s{session}")
        named = [id for id in found if id]
        assert len(named) == len(set(named)) == 5
    assert watched.tracker.live_sights <= 4 * 5


@settings(max_examples=examples(15))
@given(st.integers(0, 2**32 - 1))
def test_whatever_comes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    watched = Watched(ordered=bool(rng.integers(2)), live=bool(rng.integers(2)), timeout_s=1.0)
    pictures = [
        background(seed)[:HEIGHT, :WIDTH].copy(),
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((5, 3, 3), np.uint8),
    ]
    for _ in range(12):
        watched.now_s += float(rng.choice([0.0, 0.1, 5.0]))
        regions = [_some_region(rng) for _ in range(rng.integers(0, 8))]
        late = float(rng.choice([0.0, 0.5, 30.0]))
        found = watched.see(
            pictures[rng.choice(3, p=(0.8, 0.1, 0.1))],
            regions,
            watched.now_s - late,
            session=str(rng.choice(["a", "b"])),
        )
        assert all(found) and len(set(found)) == len(found)
    watched.close()
    assert all(sight.ended for sight in watched.told.values()) and watched.tracker.live_sights == 0


def _some_region(rng: np.random.Generator) -> Region:
    if rng.random() < 0.1:
        return Region(
            tuple((float(x), float(y)) for x, y in rng.choice([0, 1e30, -5, np.nan], (rng.integers(1, 6), 2))), 0.5
        )
    x, y, w, h = rng.integers((-20, -20, 1, 1), (WIDTH, HEIGHT, 200, 60))
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)]) @ [[1, 0.2], [-0.2, 1]] + (x, y)
    text = "".join(rng.choice(list("ABC1"), rng.integers(0, 9)))
    return Region(tuple((float(a), float(b)) for a, b in corners), float(rng.random()), text, float(rng.random()))


def test_the_terminal_counts_signs(make_frame: Bytes) -> None:
    line = TerminalLine()
    shared = SharedSink(line)
    assert isinstance(shared, SightSink) and "text regions" in line.line()
    watched = Watched()
    watch(watched, STREET, 3)
    for sight in watched.news:
        shared.sights([sight])
    watched.close()
    line.sights(tuple(watched.told.values()))
    assert "3 signs" in line.line()


@pytest.fixture
def make_frame() -> Bytes:
    return np.zeros((2, 2, 3), np.uint8)
