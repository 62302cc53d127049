from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cloud_node.laegan import WeightsError
from cloud_node.laegan.onnx_graph import OnnxNetwork

CHANNELS = 4
RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def write(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int) -> Path:
    """A model 'x' -> 'y' of these nodes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", CHANNELS, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def assert_equal_to_onnxruntime(path: Path, size: tuple[int, int]) -> OnnxNetwork:
    x = torch.from_numpy(numbers(2, CHANNELS, *size))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = OnnxNetwork(path)
    torch.testing.assert_close(network(x)[0], torch.from_numpy(session.run(None, {"x": x.numpy()})[0]))
    return network


def one(op: str, *inputs: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["x", *inputs], ["y"], **attributes)]


SHIFT = np.float32([0.5])
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], int]] = {
    "padded conv": (one("Conv", "w", "b", pads=[1, 2, 1, 2]), {"w": numbers(6, 4, 3, 5), "b": numbers(6)}, 11),
    "uneven conv": (one("Conv", "w", pads=[0, 1, 2, 0], strides=[2, 1]), {"w": numbers(6, 4, 3, 3)}, 11),
    "same upper": (one("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), {"w": numbers(6, 4, 3, 2)}, 11),
    "same lower": (one("Conv", "w", auto_pad="SAME_LOWER"), {"w": numbers(6, 4, 2, 2)}, 11),
    "valid": (one("Conv", "w", auto_pad="VALID", dilations=[2, 1]), {"w": numbers(6, 4, 2, 2)}, 11),
    "depthwise": (one("Conv", "w", group=4, strides=[2, 2], pads=[1] * 4), {"w": numbers(4, 1, 3, 3)}, 11),
    "transposed": (one("ConvTranspose", "w", "b", strides=[2, 2]), {"w": numbers(4, 6, 2, 2), "b": numbers(6)}, 11),
    "max pool": (one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"), {}, 11),
    "padded max pool": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), {}, 11),
    "average pool": (one("AveragePool", kernel_shape=[2, 3], strides=[2, 1]), {}, 11),
    "global pool": (one("GlobalAveragePool"), {}, 11),
    "mean, attribute": (one("ReduceMean", axes=[2, 3], keepdims=1), {}, 11),
    "mean, input": (one("ReduceMean", "axes", keepdims=0), {"axes": np.int64([1])}, 18),
    "clip": (one("Clip", "low", "high"), {"low": np.float32(-0.1), "high": np.float32(0.2)}, 11),
    "clip above": (one("Clip", "", "high"), {"high": np.float32(0.2)}, 11),
    "hard sigmoid": (one("HardSigmoid", alpha=0.3, beta=0.4), {}, 11),
    "hard swish": (one("HardSwish"), {}, 14),
    "leaky": (one("LeakyRelu", alpha=0.2), {}, 11),
    "sigmoid": (one("Sigmoid"), {}, 11),
    "batch norm": (
        one("BatchNormalization", "g", "b", "m", "v", epsilon=0.01),
        {"g": numbers(4), "b": numbers(4), "m": numbers(4), "v": np.abs(numbers(4))},
        11,
    ),
    "nearest, floor": (
        one("Resize", "", "s", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"s": np.float32([1, 1, 2, 4])},
        13,
    ),
    "nearest, default": (one("Resize", "", "s"), {"s": np.float32([1, 1, 2, 3])}, 13),
    "bilinear": (one("Resize", "", "s", mode="linear"), {"s": np.float32([1, 1, 2, 2])}, 13),
    "arithmetic": (
        [
            helper.make_node("Sub", ["x", "s"], ["d"]),
            helper.make_node("Div", ["d", "s"], ["q"]),
            helper.make_node("Mul", ["q", "x"], ["p"]),
            helper.make_node("Erf", ["p"], ["e"]),
            helper.make_node("Concat", ["x", "e"], ["y"], axis=1),
        ],
        {"s": SHIFT},
        11,
    ),
}


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
@pytest.mark.parametrize("case", CASES)
def test_an_operator_gives_what_onnxruntime_gives(case: str, size: tuple[int, int], tmp_path: Path) -> None:
    assert_equal_to_onnxruntime(write(tmp_path / "model.onnx", *CASES[case]), size)


def test_constants_join_the_convolution(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        helper.make_node("Identity", ["n"], ["i"]),
        helper.make_node("Mul", ["i", "g4"], ["p"]),
        helper.make_node("Add", ["b4", "p"], ["s"]),
        helper.make_node("ConvTranspose", ["s", "t"], ["u"], strides=[2, 2]),
        helper.make_node("Add", ["u", "one"], ["y"]),
    ]
    constants = {
        **{"w": numbers(6, 4, 3, 3), "t": numbers(6, 5, 2, 2), "g4": numbers(1, 6, 1, 1), "b4": numbers(6, 1, 1)},
        **{"g": numbers(6), "b": numbers(6), "m": numbers(6), "v": np.abs(numbers(6)) + 0.1, "one": SHIFT},
    }
    network = assert_equal_to_onnxruntime(write(tmp_path / "model.onnx", nodes, constants, 11), (8, 8))
    assert len(network.steps) == 2


def test_a_convolution_that_two_read_stays_as_it_is(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "one"], ["a"]),
        helper.make_node("Mul", ["a", "c"], ["y"]),
    ]
    path = write(tmp_path / "model.onnx", nodes, {"w": numbers(6, 4, 1, 1), "one": SHIFT}, 11)
    assert len(assert_equal_to_onnxruntime(path, (8, 8)).steps) == 3


@pytest.mark.parametrize(("half", "steps"), [(0.5, 1), (0.6, 5)])
def test_five_nodes_of_a_gelu_become_one(half: float, steps: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Div", ["x", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["a"]),
        helper.make_node("Mul", ["x", "a"], ["m"]),
        helper.make_node("Mul", ["m", "half"], ["y"]),
    ]
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(half)}
    network = assert_equal_to_onnxruntime(write(tmp_path / "model.onnx", nodes, constants, 11), (8, 8))
    assert len(network.steps) == steps


def test_only_what_is_asked_for_is_run(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Sigmoid", ["r"], ["y"])]
    network = OnnxNetwork(write(tmp_path / "model.onnx", nodes, {}, 11))
    x = torch.from_numpy(numbers(1, CHANNELS, 2, 2))
    both = network(x, ("y", "r"))
    assert torch.equal(both[0], network(x)[0]) and torch.equal(both[1], x.relu())
    ran: list[str] = []
    network.steps = [
        step._replace(run=lambda *a, step=step: (ran.append(step.output), step.run(*a))[1]) for step in network.steps
    ]
    network(x, ("r",))
    assert ran == ["r"]


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (one("Softplus"), {}, "not known here: Softplus"),
        (one("MaxPool", kernel_shape=[2, 2], ceil_mode=1), {}, "ceil_mode"),
        (one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4), {}, "padding"),
        (one("Resize", "", "s"), {"s": np.float32([1, 1, 1.5, 1.5])}, "nearest"),
        (one("Resize", "", "", "n"), {"n": np.int64([1, 4, 8, 8])}, "constant scale"),
    ],
)
def test_what_cannot_be_run_is_named(nodes: list, constants: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        OnnxNetwork(write(tmp_path / "model.onnx", nodes, constants, 13))
    assert "model.onnx" in str(caught.value)


def test_a_file_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no"):
        OnnxNetwork(tmp_path / "none.onnx")
    path = write(tmp_path / "model.onnx", one("Conv", "w"), {"w": numbers(6, 4, 3, 3)}, 11)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="truncated"):
        OnnxNetwork(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="no network"):
        OnnxNetwork(path)
    with pytest.raises(WeightsError, match="nothing makes other"):
        OnnxNetwork(write(path, one("Add", "other"), {}, 11))
