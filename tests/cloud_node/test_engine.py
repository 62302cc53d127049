import numpy as np
import pytest
import torch
from skimage import data

from cloud_node.engine import Engine, choose_devices
from common.errors import DeviceError, WeightsError
from common.pixels import Bytes, RawImage


def dark_photo(height: int = 96, width: int = 160) -> Bytes:
    return (data.astronaut()[:height, :width] / 12).astype(np.uint8)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(torch.device("cpu"), "fast")


def test_dark_frames_come_back_lit_and_measured(engine: Engine) -> None:
    dark = dark_photo()
    [lit] = engine.enhance([RawImage.from_rgb(dark)])
    assert lit.rgb.shape == dark.shape and lit.rgb.dtype == np.uint8 and lit.finite
    assert lit.rgb.mean() > 3 * dark.mean()
    assert 0 < lit.sharpness_before < lit.sharpness_after < 1


def test_a_batch_gives_what_its_frames_give_alone(engine: Engine) -> None:
    one, two = dark_photo(), dark_photo()[:, ::-1]
    together = engine.enhance([RawImage.from_rgb(one), RawImage.from_rgb(two)])
    alone = engine.enhance([RawImage.from_rgb(two)])[0]
    assert np.abs(together[1].rgb.astype(int) - alone.rgb).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (15, 17), (33, 16)])
def test_small_and_odd_sizes(engine: Engine, size: tuple[int, int]) -> None:
    [lit] = engine.enhance([RawImage.from_rgb(dark_photo(*size))])
    assert lit.rgb.shape == (*size, 3) and lit.finite


def test_an_output_that_is_not_a_number_is_told(engine: Engine) -> None:
    broken = Engine(torch.device("cpu"), "fast")
    with torch.no_grad():
        for parameter in broken.network.parameters():
            parameter.fill_(float("nan"))
    assert not broken.enhance([RawImage.from_rgb(dark_photo())])[0].finite


def test_device_choice_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    devices, note = choose_devices(None, "")
    assert [device.type for device in devices] == ["cpu"] and "runs on the CPU" in note
    with pytest.raises(DeviceError, match="no CUDA device; use --device cpu"):
        choose_devices([0], "")
    with pytest.raises(DeviceError, match="use --device cpu"):
        choose_devices(None, "cuda:0")
    with pytest.raises(DeviceError, match="use --device cpu"):
        choose_devices(None, "toaster")


def test_device_choice_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_devices(None, "") == ([torch.device("cuda", 0)], "")
    assert choose_devices([1, 0, 1], "")[0] == [torch.device("cuda", 1), torch.device("cuda", 0)]
    with pytest.raises(DeviceError, match="devices 0 to 1 are there; use --gpus 0"):
        choose_devices([2], "")


def test_weights_that_do_not_fit(tmp_path) -> None:
    with pytest.raises(WeightsError, match="no preset 'slow'"):
        Engine(torch.device("cpu"), "slow")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="broken.safetensors"):
        Engine(torch.device("cpu"), "fast", broken)
    with pytest.raises(WeightsError):
        Engine(torch.device("cpu"), "fast", tmp_path / "missing.safetensors")
