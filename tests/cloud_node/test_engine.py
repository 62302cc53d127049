import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from cloud_node import laegan
from cloud_node.backends import has_bf16
from cloud_node.engine import Engine, choose_devices
from common.errors import DeviceError, DeviceLost, OutOfDeviceMemory, SettingsError, WeightsError
from common.pixels import Bytes, ColorRange, PixelFormat, RawImage

CPU = torch.device("cpu")
EDGE = laegan.weights_version("edge")
# Levels of 255 by which a backend may differ from fp32: at most anywhere, and on average.
TOLERANCE = {"fp32": (0, 0.0), "bf16": (8, 0.7), "openvino": (8, 0.7)}


def dark_photo(height: int = 96, width: int = 160) -> Bytes:
    return (data.astronaut()[:height, :width] / 12).astype(np.uint8)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(CPU, "fast", threads=1)


@pytest.fixture(scope="module")
def exact() -> Engine:
    return Engine(CPU, "fast", threads=1, backend="fp32")


def weights(path: Path, version: str, value: float | None = None) -> Path:
    """The weights of preset edge under another version, all of them `value` if that is given."""
    network = laegan.load("edge")
    if value is not None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(value)
    laegan.save(network, "edge", path, version, 0)
    return path


def test_dark_frames_come_back_lit_and_measured(engine: Engine) -> None:
    dark = dark_photo()
    [lit] = engine.enhance([RawImage.from_rgb(dark)])
    assert lit.rgb.shape == dark.shape and lit.rgb.dtype == np.uint8 and lit.finite
    assert lit.rgb.mean() > 3 * dark.mean()
    assert 0 < lit.sharpness_before < lit.sharpness_after < 1
    assert lit.model == engine.model == laegan.weights_version("fast")


def test_a_batch_gives_what_its_frames_give_alone(exact: Engine) -> None:
    one, two = dark_photo(), dark_photo()[:, ::-1]
    together = exact.enhance([RawImage.from_rgb(one), RawImage.from_rgb(two)])
    alone = exact.enhance([RawImage.from_rgb(two)])[0]
    assert np.abs(together[1].rgb.astype(int) - alone.rgb).max() <= 1


def test_formats_of_a_batch_may_differ_and_order_is_kept(exact: Engine) -> None:
    rgb = dark_photo(32, 48)
    grey = RawImage(np.full(32 * 48, 9, np.uint8), 48, 32, PixelFormat.GRAY8, ColorRange.FULL)
    first, second, third = exact.enhance([RawImage.from_rgb(rgb), grey, RawImage.from_rgb(rgb[::-1])])
    assert np.abs(first.rgb.astype(int) - exact.enhance([RawImage.from_rgb(rgb)])[0].rgb).max() <= 1
    assert np.ptp(second.rgb.mean(axis=(0, 1))) < 40 and second.rgb.std() < first.rgb.std()
    assert np.abs(third.rgb.astype(int) - exact.enhance([RawImage.from_rgb(rgb[::-1])])[0].rgb).max() <= 1


@pytest.mark.parametrize("backend", TOLERANCE)
def test_backends_give_what_fp32_gives(exact: Engine, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", exc_type=ImportError)
    if backend == "bf16" and not has_bf16(CPU):
        pytest.skip("this CPU has no bfloat16, and would take minutes")
    other = Engine(CPU, "fast", threads=1, backend=backend)
    most, mean = TOLERANCE[backend]
    for size in ((96, 160), (97, 131)):
        image = RawImage.from_rgb(dark_photo(*size))
        difference = np.abs(other.enhance([image])[0].rgb.astype(int) - exact.enhance([image])[0].rgb)
        assert difference.max() <= most and difference.mean() <= mean


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (15, 17), (33, 16)])
def test_small_and_odd_sizes(engine: Engine, size: tuple[int, int]) -> None:
    [lit] = engine.enhance([RawImage.from_rgb(dark_photo(*size))])
    assert lit.rgb.shape == (*size, 3) and lit.finite


def test_a_batch_is_of_one_size(engine: Engine) -> None:
    with pytest.raises(ValueError, match="one size"):
        engine.enhance([RawImage.from_rgb(dark_photo(20, 30)), RawImage.from_rgb(dark_photo(30, 20))])


def test_presets_are_served_side_by_side() -> None:
    both = Engine(CPU, {"edge": None, "none": None}, threads=1)
    assert both.model == EDGE and dict(both.models) == {"edge": EDGE, "none": "none-0"}
    dark = dark_photo()
    [lit] = both.enhance([RawImage.from_rgb(dark)])
    [same] = both.enhance([RawImage.from_rgb(dark)], "none")
    assert (lit.model, same.model) == (EDGE, "none-0")
    assert np.array_equal(same.rgb, dark) and same.sharpness_before == same.sharpness_after
    with pytest.raises(WeightsError, match="'fast' is not served here: edge, none"):
        both.enhance([RawImage.from_rgb(dark)], "fast")


def test_an_output_that_is_not_a_number_is_told(tmp_path: Path) -> None:
    broken = Engine(CPU, "edge", weights(tmp_path / "nan.safetensors", "edge-nan", float("nan")), threads=1)
    assert not broken.enhance([RawImage.from_rgb(dark_photo())])[0].finite


def test_weights_are_reloaded_between_batches_and_bad_ones_are_not(tmp_path: Path) -> None:
    engine, image = Engine(CPU, "edge", threads=1, backend="fp32"), RawImage.from_rgb(dark_photo())
    before = engine.enhance([image])[0]
    for path, message in (
        (weights(tmp_path / "nan.safetensors", "edge-nan", float("nan")), f"not numbers; {EDGE} stays"),
        (laegan.weights_files.COMMITTED / "fast.safetensors", f"preset 'fast', not of 'edge'; {EDGE} stays"),
        (tmp_path / "missing.safetensors", f"no file .*; {EDGE} stays"),
    ):
        with pytest.raises(WeightsError, match=message):
            engine.reload("edge", path)
        assert engine.model == EDGE and np.array_equal(engine.enhance([image])[0].rgb, before.rgb)
    with pytest.raises(WeightsError, match="'fast' is not served"):
        engine.reload("fast", None)
    assert engine.reload("edge", weights(tmp_path / "dark.safetensors", "edge-new", 0.0)) == "edge-new" == engine.model
    after = engine.enhance([image])[0]
    assert after.model == "edge-new" and not np.array_equal(after.rgb, before.rgb)


def test_a_reload_on_another_thread_loses_no_frame(tmp_path: Path) -> None:
    engine, image = Engine(CPU, "edge", threads=1), RawImage.from_rgb(dark_photo(32, 48))
    new = weights(tmp_path / "two.safetensors", "edge-new")
    versions = []
    thread = threading.Thread(target=engine.reload, args=("edge", new))
    thread.start()
    while thread.is_alive() or len(versions) < 2:
        versions.append(engine.enhance([image])[0].model)
    versions.append(engine.enhance([image])[0].model)
    first_new = versions.index("edge-new")
    assert set(versions[:first_new]) <= {EDGE} and set(versions[first_new:]) == {"edge-new"}


def test_batches_submitted_ahead_come_back_in_any_order() -> None:
    engine = Engine(CPU, "none", threads=1)
    frames = [RawImage.from_rgb(dark_photo(20, 30) + level) for level in range(4)]
    pending = [engine.submit([frame]) for frame in frames]
    for index in (3, 0, 2, 1):
        [same] = pending[index].result()
        assert np.array_equal(same.rgb.reshape(-1), frames[index].data)
        assert pending[index].result()[0] is same


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfDeviceMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), OutOfDeviceMemory),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("CUDA error: out of memory"), OutOfDeviceMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), OutOfDeviceMemory),
        (RuntimeError("a kernel that is not there"), DeviceError),
    ],
)
def test_device_errors_have_their_names(error: Exception, expected: type[DeviceError]) -> None:
    engine = Engine(CPU, "edge", threads=1, backend="fp32")

    def fail(*_: object) -> None:
        raise error

    [model] = engine._models.values()
    handle = model.network.register_forward_pre_hook(fail)
    with pytest.raises(DeviceError) as told:
        engine.enhance([RawImage.from_rgb(dark_photo(20, 30))])
    assert type(told.value) is expected
    if isinstance(told.value, OutOfDeviceMemory):
        assert (told.value.frames, told.value.pixels) == (1, 600)
    handle.remove()
    assert engine.enhance([RawImage.from_rgb(dark_photo(20, 30))])[0].finite


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


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no preset 'slow'"):
        Engine(CPU, "slow")
    with pytest.raises(WeightsError, match="no preset to serve"):
        Engine(CPU, {})
    with pytest.raises(SettingsError, match="--backend magic: choose one of auto, fp32"):
        Engine(CPU, "fast", backend="magic")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=r"broken\.safetensors"):
        Engine(CPU, "fast", broken)
    with pytest.raises(WeightsError):
        Engine(CPU, "fast", tmp_path / "missing.safetensors")


def test_without_openvino_torch_takes_over_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    engine = Engine(CPU, "edge", threads=1)
    assert engine.enhance([RawImage.from_rgb(dark_photo(20, 30))])[0].finite
    assert ["openvino is not installed" in record.message for record in caplog.records] == [True]
    with pytest.raises(SettingsError, match="where openvino is installed"):
        Engine(CPU, "edge", backend="openvino")
