import numpy as np
import pytest

from common.color import to_rgb
from common.pixels import Bytes, ColorMatrix, ColorRange, PixelFormat, RawImage
from edge_node.alignment import find_shift, resampled
from edge_node.fusion import Fuser, joined, planes_of

HEIGHT, WIDTH, NOISE = 240, 320, 4.0


def scene(height: int = HEIGHT, width: int = WIDTH, margin: int = 40) -> np.ndarray:
    """Dark strokes on grey, as text is, with a margin all around; levels 8 to 40."""
    rng = np.random.default_rng(5)
    page = np.full((height + 2 * margin, width + 2 * margin), 36.0)
    for _ in range(page.size // 400):
        top, left = rng.integers(0, page.shape[0]), rng.integers(0, page.shape[1])
        rows, columns = rng.choice([(2, 9), (9, 2), (3, 3)])
        page[top : top + rows, left : left + columns] = rng.uniform(8, 20)
    return page


def view(page: np.ndarray, right: int = 0, down: int = 0, margin: int = 40) -> np.ndarray:
    """What the camera sees when its content has moved so far."""
    rows, columns = (side - 2 * margin for side in page.shape)
    return page[margin - down : margin - down + rows, margin - right : margin - right + columns]


def noisy(levels: np.ndarray, seed: int, noise: float = NOISE) -> Bytes:
    rng = np.random.default_rng(seed)
    return np.rint(levels + rng.normal(0, noise, levels.shape)).clip(0, 255).astype(np.uint8)


def grey(levels: np.ndarray, seed: int, noise: float = NOISE) -> RawImage:
    data = noisy(levels, seed, noise)
    return RawImage(data.reshape(-1), data.shape[1], data.shape[0], PixelFormat.GRAY8)


def luma(image: RawImage) -> np.ndarray:
    return planes_of(image)[0].astype(float)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-7, 5), (20, 13)])
def test_a_known_shift_is_found_in_noise(shift: tuple[int, int]) -> None:
    page = scene()
    before, after = noisy(view(page), 1), noisy(view(page, *shift), 2)
    assert find_shift(before.astype(np.float32), after) == pytest.approx(shift, abs=0.5)


def test_a_fraction_of_a_pixel_is_found() -> None:
    page = scene().astype(np.float32)
    moved = resampled(page, (-0.6, 0.4))
    found = find_shift(noisy(view(page), 1).astype(np.float32), noisy(view(moved), 2))
    assert found == pytest.approx((0.6, -0.4), abs=0.2)


def test_what_moves_on_its_own_does_not_pull_the_shift() -> None:
    page = scene()
    before, after = noisy(view(page), 1), noisy(view(page, 2, 1), 2)
    before[60:130, 80:160] = noisy(np.tile([[20.0, 60.0]], (70, 40)), 3)
    after[70:140, 100:180] = noisy(np.tile([[20.0, 60.0]], (70, 40)), 4)
    assert find_shift(before.astype(np.float32), after) == pytest.approx((2, 1), abs=0.5)


@pytest.mark.parametrize("levels", [np.zeros((HEIGHT, WIDTH)), np.full((HEIGHT, WIDTH), 12.0)])
def test_without_contrast_nothing_moves(levels: np.ndarray) -> None:
    found = [find_shift(noisy(levels, 2 * k).astype(np.float32), noisy(levels, 2 * k + 1)) for k in range(5)]
    assert max(abs(part) for shift in found for part in shift) < 0.5


def test_noise_falls_by_the_root_of_the_number_of_frames() -> None:
    page = view(scene())
    fuser = Fuser(16)
    for k in range(16):
        out = fuser.add(grey(page, k))
    assert (luma(out) - page).std() == pytest.approx(np.hypot(NOISE / 4, 12**-0.5), rel=0.12)
    assert fuser.merged == pytest.approx(16, rel=0.03) and fuser.resets == 0


def test_in_the_long_run_it_is_that_of_twice_as_many() -> None:
    page = view(scene())
    fuser = Fuser(4)
    for k in range(24):
        out = fuser.add(grey(page, k))
    assert (luma(out) - page).std() == pytest.approx(np.hypot(NOISE / 7**0.5, 12**-0.5), rel=0.08)


def test_it_falls_though_the_camera_sways() -> None:
    page, path = scene(), [(0, 0), (2, 1), (3, -1), (1, -2), (-1, 0), (-2, 2), (0, 1), (1, 0)]
    fuser = Fuser(8)
    for k, shift in enumerate(path):
        out = fuser.add(grey(view(page, *shift), k))
    assert np.round(np.subtract((1, 0), fuser.offset)).tolist() == [1, 0]
    assert (luma(out) - view(page, *path[-1])).std() < NOISE / 8**0.5 * 1.5


@pytest.mark.parametrize("contrast", [8, 40])
def test_a_moving_square_leaves_no_ghost(contrast: int) -> None:
    page = view(scene())
    fuser = Fuser(8)
    for k in range(12):
        frame = page.copy()
        frame[90:140, 10 + 16 * k : 60 + 16 * k] = page[90:140, 10 + 16 * k : 60 + 16 * k] + contrast
        out = fuser.add(grey(frame, k))
    ghost = (luma(out) - frame)[90:140, : 60 + 16 * k]
    means = ghost[:48, :224].reshape(6, 8, 28, 8).mean(axis=(1, 3))
    assert np.abs(means).max() < 2.5  # 5 standard deviations of a block of the newest frame alone
    assert fuser.resets == 0


def test_the_newest_is_what_moves_to_the_last_bit() -> None:
    page = view(scene())
    fuser = Fuser(8)
    for k in range(4):
        fuser.add(grey(page, k))
    frame = page.copy()
    frame[80:160, 80:160] = 70
    newest = grey(frame, 9)
    out = fuser.add(newest)
    assert np.array_equal(luma(out)[80:160, 80:160], luma(newest)[80:160, 80:160])
    assert not np.array_equal(luma(out)[:60], luma(newest)[:60])


def test_a_lamp_that_goes_on_and_off_shows_as_it_is() -> None:
    page = view(scene())
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    glow = 60 * np.exp(-((x - 200) ** 2 + (y - 100) ** 2) / (2 * 25**2))
    fuser = Fuser(8)
    for k, lit in enumerate([0, 0, 0, 0, 1, 1, 0, 0, 1, 0]):
        frame = page + lit * glow
        out = fuser.add(grey(frame, k))
        error = (luma(out) - frame)[80:120, 180:220]
        assert abs(error.mean()) < 1
    assert fuser.resets == 0


def test_a_light_that_changes_only_its_colour_is_the_newest() -> None:
    page, fuser = view(scene()), Fuser(8)
    for k, (u, v) in enumerate([(100, 160)] * 5 + [(160, 100)]):
        chroma = np.full((2, HEIGHT // 2, WIDTH // 2), 128.0)
        chroma[:, 40:60, 60:80] = [[[u]], [[v]]]
        data = np.concatenate([noisy(page, k).reshape(-1), noisy(chroma, 50 + k, 1.0).reshape(-1)])
        out = fuser.add(RawImage(data, WIDTH, HEIGHT, PixelFormat.I420))
    assert [plane[42:58, 62:78].mean() for plane in planes_of(out)[1:]] == pytest.approx([160, 100], abs=1)


@pytest.mark.parametrize("second", ["another scene", "darker", "brighter"])
def test_another_scene_light_or_exposure_starts_anew(second: str) -> None:
    page = scene()
    other = {"another scene": view(page[::-1, ::-1]), "darker": view(page) / 2, "brighter": view(page) * 1.5}[second]
    for before in (1, 6):
        fuser = Fuser(8)
        for k in range(before):
            fuser.add(grey(view(page), k))
        newest = grey(other, 99)
        assert fuser.add(newest) is newest and fuser.resets == 1 and fuser.merged == 1
        assert fuser.add(grey(other, 100)) is not newest and fuser.merged > 1.9


def test_another_size_or_format_starts_anew() -> None:
    page, fuser = view(scene()), Fuser(8)
    for image in (grey(page, 0), grey(page[:100], 1), RawImage.from_rgb(np.stack([noisy(page[:100], 2)] * 3, axis=-1))):
        assert fuser.add(image) is image
    assert fuser.resets == 2


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (32, 32), (33, 47), (101, 163), (180, 640)])
@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_any_size_and_format(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    height, width = size
    if pixel_format is PixelFormat.YUYV:
        width += width % 2
    page, fuser = scene(height, width)[40:-40, 40:-40], Fuser(8)
    rgb = np.stack([page, page * 0.8, page * 0.6], axis=-1)
    still = RawImage.from_rgb(rgb.astype(np.uint8))
    for k in range(8):
        image = in_format(noisy(rgb, k), pixel_format)
        out = fuser.add(image)
        assert (out.width, out.height, out.pixel_format) == (image.width, image.height, pixel_format)
        assert (out.color_range, out.color_matrix) == (image.color_range, image.color_matrix)
    if min(size) < 32:
        assert out is image
    else:
        clean = planes_of(in_format(to_rgb(still), pixel_format))
        for fused, newest, exact in zip(planes_of(out), planes_of(image), clean, strict=True):
            assert (fused - exact.astype(float)).std() < 0.75 * (newest - exact.astype(float)).std()


def in_format(rgb: Bytes, pixel_format: PixelFormat) -> RawImage:
    """A plain conversion: chroma is taken at every second pixel."""
    height, width = rgb.shape[:2]
    if pixel_format is PixelFormat.RGB24:
        return RawImage.from_rgb(rgb)
    red, green, blue = (rgb[..., i].astype(float) for i in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = 128 + (blue - y) * 0.564, 128 + (red - y) * 0.713
    rows = 1 if pixel_format in (PixelFormat.I422, PixelFormat.YUYV) else 2
    planes = [np.rint(plane).clip(0, 255).astype(np.uint8) for plane in (y, u[::rows, ::2], v[::rows, ::2])]
    like = RawImage(
        np.zeros(_size(pixel_format, width, height), np.uint8), width, height, pixel_format, ColorRange.FULL,
        ColorMatrix.BT709,
    )  # fmt: skip
    return joined(like, planes[:1] if pixel_format is PixelFormat.GRAY8 else planes)


def _size(pixel_format: PixelFormat, width: int, height: int) -> int:
    from common.pixels import content_size

    return content_size(pixel_format, width, height)


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_one_frame_is_the_identity(pixel_format: PixelFormat) -> None:
    fuser = Fuser(1)
    for k in range(3):
        image = in_format(noisy(np.full((64, 64, 3), 30.0), k), pixel_format)
        assert fuser.add(image) is image


def test_bright_frames_are_left_as_they_are() -> None:
    fuser = Fuser(8)
    for k in range(3):
        image = grey(view(scene()) + 120, k)
        assert fuser.add(image) is image


def test_a_long_sway_does_not_move_chroma_against_luma() -> None:
    """Odd shifts are half a pixel of chroma: they must not add up."""
    page, fuser = scene(margin=80), Fuser(4)
    spot = np.zeros_like(page)
    spot[180:200, 200:220] = 60
    for k in range(30):
        shift = (k % 40, 0)
        frame, color = view(page, *shift, margin=80), view(spot, *shift, margin=80)
        chroma = np.stack([128 - color[::2, ::2], 128 + color[::2, ::2]])
        data = np.concatenate([noisy(frame, k).reshape(-1), noisy(chroma, 50 + k, 1.0).reshape(-1)])
        out = fuser.add(RawImage(data, WIDTH, HEIGHT, PixelFormat.I420))
    u, v = (plane.astype(float) for plane in planes_of(out)[1:])
    for plane, clean in ((u, chroma[0]), (v, chroma[1])):
        columns = np.arange(plane.shape[1])
        place, wanted = (
            (np.abs(levels - 128) > 30).sum(axis=0) @ columns / (np.abs(levels - 128) > 30).sum()
            for levels in (plane, clean)
        )
        assert place == pytest.approx(wanted, abs=0.6)
