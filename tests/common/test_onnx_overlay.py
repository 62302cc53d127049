"""Weights over a network: what was written comes back, and another network than theirs is refused with words."""

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
from disks import failing_disk

from common.errors import WeightsError
from common.onnx_file import Network
from common.onnx_models import lean_session, wheel_model
from common.onnx_overlay import LARGEST, OtherBaseError, read_overlay, write_overlay
from common.text_recognition import PLAIN, CTCRecognizer

FIRST = "conv2d_68.w_0"  # the first convolution of rapidocr's recogniser


@pytest.fixture(scope="module")
def model() -> bytes:
    return wheel_model("rec", "the test").read_bytes()


@pytest.fixture
def changed(model: bytes, tmp_path: Path) -> Path:
    weights = Network(model).weights(FIRST.encode())
    assert weights is not None
    write_overlay(tmp_path / "changed.npz", model, {FIRST: weights + np.float32(0.01)})
    return tmp_path / "changed.npz"


def test_the_weights_come_back_and_all_others_stay(model: bytes, changed: Path) -> None:
    before, after = Network(model), Network(read_overlay(changed).over(model))
    for node in before.nodes:
        for name in node.inputs:
            old, new = before.weights(name), after.weights(name)
            if old is not None:
                assert new is not None
                np.testing.assert_allclose(new, old + 0.01 * (name == FIRST.encode()), rtol=0, atol=1e-5)


def test_what_it_changes_is_what_runs(changed: Path) -> None:
    path = wheel_model("rec", "the test")
    plain, other = lean_session(path, 1), lean_session(path, 1, read_overlay(changed))
    line = {plain.get_inputs()[0].name: np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 64)).astype(np.float32)}
    assert np.abs(plain.run(None, line)[0] - other.run(None, line)[0]).max() > 1e-4


def test_another_network_than_theirs_is_refused(model: bytes, changed: Path) -> None:
    with pytest.raises(OtherBaseError, match=r"changed.npz changes a network with the digest .* another version"):
        read_overlay(changed).over(model[:-1] + b"!")


def test_with_another_version_of_the_network_it_is_read_as_it_is(
    model: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = Network(model).weights(FIRST.encode())
    assert weights is not None
    write_overlay(tmp_path / "of-another.npz", model + b"\x4a\x00", {FIRST: weights + 1})  # an empty unknown field
    with caplog.at_level(logging.WARNING):
        recognizer = CTCRecognizer(tmp_path / "of-another.npz", threads=1)
        recognizer.load()
    [line] = [record.getMessage() for record in caplog.records]
    assert "is read with as it is" in line and "of-another.npz" in line
    crop = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    plain = CTCRecognizer(PLAIN, threads=1)
    plain.load()
    assert (recognizer.probabilities(crop) == plain.probabilities(crop)).all()


def test_a_file_that_is_none(model: bytes, changed: Path, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no weights")
    np.savez(tmp_path / "plain.npz", weights=np.zeros(3))
    np.savez(tmp_path / "other.npz", **{"base sha256": np.array("0"), "weights": np.zeros(3)})
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        np.savez(tmp_path / f"{name}.npz", **{"base sha256": np.array("0"), "weights": np.full(3, value, np.float16)})
    for name, member in (("zip", "readme.txt"), ("base", "base sha256")):  # of something else
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as file:
            file.writestr(member, "no array")
    for name in ("absent", "text", "plain", "other", "nan", "infinite", "zip", "base"):
        with pytest.raises(WeightsError, match=f"{name}.npz"):
            read_overlay(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("weights.npy", bytes(LARGEST + 1))
    with pytest.raises(WeightsError, match=f"bomb.npz cannot be read .* {LARGEST + 1} bytes"):
        read_overlay(tmp_path / "bomb.npz")
    whole = changed.read_bytes()
    changed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be read"):
        read_overlay(changed)


def test_weights_that_do_not_fit_are_not_written(model: bytes, tmp_path: Path) -> None:
    for name, values in (("no such", np.zeros(1, np.float32)), (FIRST, np.zeros(1, np.float32))):
        with pytest.raises(ValueError, match="no weight of the network, or has another shape"):
            write_overlay(tmp_path / "new.npz", model, {name: values})
    with pytest.raises(ValueError, match="more than float16"):
        write_overlay(tmp_path / "new.npz", model, {FIRST: np.full((48, 3, 3, 3), 1e9, np.float32)})
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more_leaves_the_weights_that_were_there(model: bytes, tmp_path: Path) -> None:
    """They are on the disk before they have their name: else an empty file may have it when the power goes."""
    weights = Network(model).weights(FIRST.encode())
    assert weights is not None
    with failing_disk(tmp_path) as disk:
        path = disk.mounted / "dark.npz"
        write_overlay(path, model, {FIRST: weights + np.float32(0.01)})
        before = path.read_bytes()
        disk.fails()
        with pytest.raises(OSError, match="No space left"):
            write_overlay(path, model, {FIRST: weights + np.random.default_rng(0).random(weights.shape, np.float32)})
        assert path.read_bytes() == before and [file.name for file in disk.mounted.glob("*dark*")] == ["dark.npz"]
        with disk.after_a_power_cut(tmp_path) as after:
            assert (after / "dark.npz").read_bytes() == before
