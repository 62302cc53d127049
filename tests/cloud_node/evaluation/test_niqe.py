from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cloud_node.evaluation.niqe import Niqe, _half, asymmetric_gaussian, features
from common.errors import WeightsError


def parameters(folder: Path) -> Path:
    path = folder / "pristine.npz"
    np.savez(path, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    return path


def test_the_fit_finds_shape_and_scales() -> None:
    rng = np.random.default_rng(0)
    shape, left, right = asymmetric_gaussian(rng.normal(0, 2, 200_000))
    assert shape == pytest.approx(2, abs=0.05)
    assert (left, right) == pytest.approx((2 * 2**0.5, 2 * 2**0.5), rel=0.02)
    shape, left, right = asymmetric_gaussian(rng.laplace(0, 1, 200_000))
    assert shape == pytest.approx(1, abs=0.05)


def test_half_keeps_a_slope_and_the_mean() -> None:
    ramp = np.add.outer(np.arange(64.0), 2 * np.arange(48.0))
    half = _half(ramp)
    assert half.shape == (32, 24)
    np.testing.assert_allclose(half[4:-4, 4:-4], (ramp[::2, ::2] + 1.5)[4:-4, 4:-4])


def test_both_kinds_of_parameter_files_give_the_same(tmp_path: Path) -> None:
    npz = parameters(tmp_path)
    savemat(tmp_path / "pristine.mat", {"mu_prisparam": np.zeros((1, 36)), "cov_prisparam": np.eye(36)})
    image = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert Niqe.read(npz)(image) == pytest.approx(Niqe.read(tmp_path / "pristine.mat")(image))


def test_an_image_without_two_blocks_or_structure_has_no_niqe(tmp_path: Path) -> None:
    niqe = Niqe.read(parameters(tmp_path))
    rng = np.random.default_rng(0)
    for image in (
        rng.integers(0, 256, (150, 150, 3), dtype=np.uint8),
        rng.integers(0, 256, (40, 300, 3), dtype=np.uint8),
        np.zeros((200, 200, 3), np.uint8),
    ):
        assert np.isnan(niqe(image))
    assert features(np.zeros((200, 300, 3), np.uint8)).shape == (2 * 3, 36)


def test_broken_parameters_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.npz"):
        Niqe.read(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(36))
    with pytest.raises(WeightsError, match="mu_pris_param"):
        Niqe.read(tmp_path / "other.npz")


def test_noise_and_blur_make_a_photograph_worse(shared_data: Path) -> None:
    niqe = Niqe.read(shared_data / "weights" / "niqe" / "niqe_pris_params.npz")
    with Image.open(shared_data / "dicm" / "01.jpg") as file:
        photo = np.asarray(file.convert("RGB"))
    assert niqe(photo) == pytest.approx(3.3569, abs=1e-3)  # basicsr 1.4.2 gives 3.35691 for the same pixels
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 25, photo.shape), 0, 255).astype(np.uint8)
    assert niqe(noisy) > niqe(photo) + 1
    assert niqe(np.asarray(cv2.GaussianBlur(photo, (0, 0), 3))) > niqe(photo) + 1
