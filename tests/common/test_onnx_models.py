import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import WeightsError
from common.onnx_models import MODELS, lean_session, model_in, wheel_model, without_denormals


def float_weights(content: bytes) -> dict[str, np.ndarray]:
    onnx = pytest.importorskip("onnx")
    tensors = onnx.load_from_string(content).graph.initializer
    return {one.name: onnx.numpy_helper.to_array(one) for one in tensors if one.data_type == onnx.TensorProto.FLOAT}


def test_only_denormal_weights_become_zero() -> None:
    content = wheel_model("det", "this test").read_bytes()
    flushed = bytes(without_denormals(content))
    assert len(flushed) == len(content)
    before, after, changed = float_weights(content), float_weights(flushed), 0
    for name, weights in before.items():
        denormal = (weights != 0) & (np.abs(weights) < np.finfo(np.float32).tiny)
        assert np.array_equal(np.where(denormal, 0, weights), after[name])
        changed += int(denormal.sum())
    assert changed > 0, "the model has none left: this is no longer needed"


def test_the_detector_says_the_same_without_them() -> None:
    import onnxruntime as ort

    path = wheel_model("det", "this test")
    blob = np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    contents = (path.read_bytes(), bytes(without_denormals(path.read_bytes())))
    sessions = [ort.InferenceSession(one, options, providers=["CPUExecutionProvider"]) for one in contents]
    [expected], [given] = (session.run(None, {"x": blob}) for session in sessions)
    assert given.tobytes() == expected.tobytes() and np.ptp(expected) > 0


def test_nobody_is_told_what_runs_here(tmp_path: Path) -> None:
    """ONNX Runtime leaves a device's number and a queue of events in the user's cache where it may tell."""
    names = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED", "TF_BUILD", "GITHUB_ACTIONS", "XDG_CACHE_HOME")
    environ = {name: value for name, value in os.environ.items() if name not in names} | {"HOME": str(tmp_path)}
    session = "from common.onnx_models import lean_session, wheel_model; lean_session(wheel_model('det', 'this'), 1)"
    subprocess.run([sys.executable, "-c", session], env=environ, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    told = subprocess.run(
        [sys.executable, "-c", "import os, common; print(os.environ['ORT_DISABLE_TELEMETRY'])"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == "1\n"


def test_a_session_takes_the_memory_it_needs_and_no_more() -> None:
    session = lean_session(wheel_model("det", "this test"), 1)
    options = session.get_session_options()
    assert options.enable_cpu_mem_arena and not options.enable_mem_pattern and options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0", "waiting takes a core's time"
    assert not session._model_bytes, "the file is kept beside the network that was made of it"


def test_a_model_that_another_program_downloaded_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = ("PP-OCRv10_rec_small.onnx", "PP-OCRv6_rec_tiny.onnx", "th_PP-OCRv5_rec_mobile.onnx")
    for name in (*MODELS.values(), *others):
        (tmp_path / name).write_bytes(b"x")
    assert model_in(tmp_path, "rec", "--recognize").name == "PP-OCRv6_rec_small.onnx"
    assert model_in(tmp_path, "det", "dbnet").name == "PP-OCRv6_det_small.onnx"
    assert not caplog.text
    (tmp_path / MODELS["rec"]).unlink()  # another version of the wheel
    assert model_in(tmp_path, "rec", "--recognize").name in others
    assert "PP-OCRv6_rec_small.onnx is missing" in caplog.text
    (tmp_path / MODELS["det"]).unlink()
    with pytest.raises(WeightsError, match="no model for dbnet"):
        model_in(tmp_path, "det", "dbnet")


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_the_wheel_carries_the_models_that_are_named(kind: str) -> None:
    assert wheel_model(kind, "this test").name == MODELS[kind]


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"no model at all", b"\x3a\x7f\x01"])
def test_what_is_no_protobuf_stays_as_it_is(content: bytes) -> None:
    assert without_denormals(content) == content


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"text\.onnx cannot be read as a network"):
        lean_session(tmp_path / "text.onnx", 1)
    with pytest.raises(WeightsError, match=r"none\.onnx cannot be read"):
        lean_session(tmp_path / "none.onnx", 1)
