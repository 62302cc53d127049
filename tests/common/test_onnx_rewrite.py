"""Rewritten networks say what they said: rapidocr's own, and small ones for each kind of rewriting."""

import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common import onnx_models, onnx_rewrite
from common.onnx_file import Network, fields
from common.onnx_models import lean_options, lean_session, wheel_model, without_denormals
from common.onnx_rewrite import (
    add_rather_than_join,
    drop_identities,
    enlarge_last,
    faster,
    fill_blocks,
    gate_once,
    stay_in_blocks,
)  # fmt: skip
from common.text_detection import DBNet

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
SAME_SUMS = 2e-5  # of probabilities: what the order of a sum changes


def output(model: bytes, x: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    return ort.InferenceSession(model, lean_options(1), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def layers(model: bytes) -> Counter[str]:
    return Counter(one.op_type for one in onnx.load_from_string(model).graph.node)


@pytest.mark.parametrize(
    ("kind", "shape", "gone", "come"),
    [
        ("det", (96, 160), {"Identity", "ConvTranspose"}, {"DepthToSpace": 1, "MaxPool": 6}),
        ("rec", (48, 160), {"Identity"}, {"MaxPool": 6}),
    ],
)
def test_the_wheels_networks_say_the_same(kind: str, shape: tuple[int, ...], gone: set[str], come: dict) -> None:
    content = wheel_model(kind, "this test").read_bytes()
    made = faster(content)
    before, after = layers(content), layers(made)
    assert gone <= set(before) and not gone & set(after)
    assert after["Concat"] == before["Concat"] - 1
    assert {name: after[name] for name in come} == come
    x = word("EXIT 12", *shape)
    expected, given = output(content, x), output(made, x)
    assert np.abs(given - expected).max() <= SAME_SUMS and np.ptp(expected) > 0.9
    onnx.checker.check_model(onnx.load_from_string(made), full_check=True)


def word(text: str, height: int, width: int) -> np.ndarray:
    """(1, 3, height, width), -1..1, with that text in its middle."""
    image = Image.new("L", (width, height), 40)
    ImageDraw.Draw(image).text((width / 2, height / 2), text, fill=220, font=ImageFont.load_default(34), anchor="mm")
    noise = np.random.default_rng(0).normal(0, 0.05, (1, 3, height, width))
    return (np.asarray(image) / 127.5 - 1 + noise).astype(np.float32)


def test_the_same_regions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (320, 200), (40, 50, 60))
    for at, word in enumerate(("EXIT 12", "MAIN ROAD", "Open 24 hours")):
        ImageDraw.Draw(image).text((20, 12 + 60 * at), word, fill=(220, 220, 200), font=ImageFont.load_default(34))
    rgb = np.asarray(image) + np.random.default_rng(0).integers(0, 30, (200, 320, 3), np.uint8)
    given = DBNet(limit_side=192, threads=1).detect(rgb)
    monkeypatch.setattr(onnx_models, "faster", bytes)
    plain = DBNet(limit_side=192, threads=1).detect(rgb)
    assert len(plain) == 3 and [one.polygon for one in given] == [one.polygon for one in plain]
    assert np.allclose([one.score for one in given], [one.score for one in plain], atol=1e-5)


def net(nodes: list, weights: dict[str, np.ndarray], *, outputs: tuple[str, ...] = ("y",), channels: int = 3) -> bytes:
    value = onnx.helper.make_tensor_value_info
    held = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(
        nodes, "net", [value("x", onnx.TensorProto.FLOAT, [1, channels, None, None])],
        [value(name, onnx.TensorProto.FLOAT, [1, None, None, None]) for name in outputs], held,
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=9)
    return model.SerializeToString()


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def conv(source: str, name: str, **more: object) -> object:
    return node("Conv", [source, f"w{name}"], [name], kernel_shape=[3, 3], pads=[1, 1, 1, 1], **more)


def joined(**changed: object) -> bytes:
    """Two maps of five and four channels joined, convolved, with a bias."""
    last = node("Conv", ["j", "wc"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    nodes = [
        conv("x", "a"), node("Relu", ["a"], ["ra"]), conv("x", "b"), node("Relu", ["b"], ["rb"]),
        node("Concat", ["ra", "rb"], ["j"], axis=1), last, node("Add", ["c", "bc"], ["y"]),
    ]  # fmt: skip
    if changed.get("used"):
        nodes.append(node("Relu", ["j"], ["also"]))
    weights = {"wa": random(5, 3, 3, 3), "wb": random(4, 3, 3, 3), "wc": random(6, 9, 3, 3), "bc": random(1, 6, 1, 1)}
    return net(nodes, weights, outputs=("y", "also") if changed.get("used") else ("y",))


def pooled(used: bool = False) -> bytes:
    """A map of 24 channels that is pooled, one of 12, and then 6."""
    nodes = [
        conv("x", "a"), node("Add", ["a", "ba"], ["ab"]), node("Relu", ["ab"], ["ra"]),
        node("MaxPool", ["ra"], ["p"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"), conv("p", "b"),
        node("Relu", ["b"], ["rb"]), conv("rb", "c"), node("Sigmoid", ["c"], ["y"]),
    ]  # fmt: skip
    if used:
        nodes.append(node("Sigmoid", ["ra"], ["also"]))
    weights = {
        "wa": random(24, 3, 3, 3),
        "ba": random(1, 24, 1, 1),
        "wb": random(12, 24, 3, 3),
        "wc": random(6, 12, 3, 3),
    }
    return net(nodes, weights, outputs=("y", "also") if used else ("y",))


def gated(gate: str = "HardSigmoid", used: bool = False, onto: str = "a") -> bytes:
    """x + x s, where s is made of the map's mean."""
    nodes = [
        conv("x", "a"), node("GlobalAveragePool", ["a"], ["m"]), node(gate, ["m"], ["s"]),
        node("Mul", ["a", "s"], ["t"]),
        node("Add", [onto, "t"], ["y"]),
    ]  # fmt: skip
    if used:
        nodes.append(node("Relu", ["t"], ["also"]))
    return net(nodes, {"wa": random(16, 3, 3, 3)}, outputs=("y", "also") if used else ("y",))


def residual(gate: str = "HardSigmoid") -> bytes:
    """A gated map, and what a convolution with its bias makes of it, added."""
    nodes = [
        conv("x", "a"), node("GlobalAveragePool", ["a"], ["m"]), node(gate, ["m"], ["s"]),
        node("Mul", ["a", "s"], ["t"]),
        conv("t", "c"), node("Add", ["c", "bc"], ["d"]), node("Add", ["t", "d"], ["y"]),
    ]  # fmt: skip
    return net(nodes, {"wa": random(16, 3, 3, 3), "wc": random(16, 16, 3, 3), "bc": random(1, 16, 1, 1)})


def enlarged(thin: int = 1, **first: object) -> bytes:
    """Two steps that double a map, with what stands between and after them."""
    doubling = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("ConvTranspose", ["x", "wa"], ["a"], **doubling | first), node("Add", ["a", "ba"], ["ab"]),
        node("Relu", ["ab"], ["r"]), node("ConvTranspose", ["r", "wb"], ["b"], **doubling),
        node("Add", ["b", "bb"], ["bbb"]), node("Sigmoid", ["bbb"], ["y"]),
    ]  # fmt: skip
    deep = 4 * int(str(first.get("group", 1)))
    kernel = tuple(first.get("kernel_shape", (2, 2)))  # type: ignore[arg-type]
    weights = {"wa": random(6, 4, *kernel), "ba": random(1, deep, 1, 1), "wb": random(deep, thin, 2, 2)}
    return net(nodes, weights | {"bb": random(1, thin, 1, 1)}, channels=6)


def rewritten(model: bytes, rewrite: Callable[[Network], None]) -> bytes:
    network = Network(model)
    rewrite(network)
    return network.written()


@pytest.mark.parametrize(
    ("model", "rewrite", "gone", "come"),
    [
        (joined(), add_rather_than_join, {"Concat": 1}, {"Conv": 1}),
        (gated(), gate_once, {}, {}),
        (gated("Sigmoid"), gate_once, {}, {}),
        (residual(), stay_in_blocks, {}, {"MaxPool": 1}),
        (enlarged(), enlarge_last, {"ConvTranspose": 2, "Add": 2}, {"Conv": 2, "DepthToSpace": 1}),
        (enlarged(thin=3), enlarge_last, {"ConvTranspose": 2, "Add": 2}, {"Conv": 2, "DepthToSpace": 1}),
    ],
)  # fmt: skip
def test_each_says_the_same(model: bytes, rewrite: Callable[[Network], None], gone: dict, come: dict) -> None:
    made = rewritten(model, rewrite)
    before, after = layers(model), layers(made)
    assert before - after == Counter(gone) and after - before == Counter(come)
    assert made != rewritten(model, lambda network: None), "nothing was rewritten"
    same(model, made)


def same(model: bytes, made: bytes) -> None:
    channels = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    x = np.random.default_rng(1).normal(0, 1, (1, channels, 14, 22)).astype(np.float32)
    expected, given = output(model, x), output(made, x)
    assert expected.shape == given.shape and np.abs(given - expected).max() <= 1e-5 < np.ptp(expected)


def test_blocks_are_filled_with_nothing() -> None:
    made = rewritten(pooled(), fill_blocks)
    shapes = [tuple(one.dims) for one in onnx.load_from_string(made).graph.initializer]
    assert sorted(shapes) == sorted([(32, 3, 3, 3), (1, 32, 1, 1), (16, 32, 3, 3), (6, 16, 3, 3)])
    same(pooled(), made)


def test_a_map_that_others_take_is_not_filled() -> None:
    made = rewritten(pooled(used=True), fill_blocks)
    assert [tuple(one.dims)[0] for one in onnx.load_from_string(made).graph.initializer if one.name == "wa"] == [24]
    same(pooled(used=True), made)


@pytest.mark.parametrize(
    ("model", "rewrite"),
    [
        (joined(used=True), add_rather_than_join),
        (gated("Relu"), gate_once),
        (gated(used=True), gate_once),
        (gated(onto="x"), gate_once),
        (residual("Relu"), stay_in_blocks),
        (enlarged(strides=[1, 1]), enlarge_last),
        (enlarged(pads=[1, 1, 1, 1]), enlarge_last),
        (enlarged(output_padding=[1, 1]), enlarge_last),
        (enlarged(kernel_shape=[3, 3]), enlarge_last),
        (enlarged(group=2), enlarge_last),
    ],
)
def test_what_looks_alike_stays_as_it_is(model: bytes, rewrite: Callable[[Network], None]) -> None:
    assert layers(rewritten(model, rewrite)) == layers(model)
    assert rewritten(model, rewrite) == rewritten(model, lambda network: None)


def test_identities_go_but_not_the_one_that_is_given_out() -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        conv("a", "b"),
        node("Identity", ["b"], ["c"]),
        node("Identity", ["c"], ["y"]),
    ]
    model = net(nodes, {"wb": random(2, 3, 3, 3)})
    made = rewritten(model, drop_identities)
    assert layers(made) == {"Conv": 1, "Identity": 1}
    same(model, made)


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", bytes(100), b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_network_stays_as_it_is(content: bytes) -> None:
    assert faster(content) == content


def test_a_file_cut_short_is_no_fault_of_ours() -> None:
    content = wheel_model("det", "this test").read_bytes()[:200_000]
    for length in range(0, len(content), 23_917):
        assert isinstance(faster(content[:length]), bytes)


def test_a_rewritten_network_that_does_not_load_runs_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "net.onnx").write_bytes(pooled())
    monkeypatch.setattr(onnx_models, "faster", lambda content: content[:-30])
    x = np.ones((1, 3, 8, 8), np.float32)
    assert np.array_equal(lean_session(tmp_path / "net.onnx", 1).run(None, {"x": x})[0], output(pooled(), x))
    assert "does not run as it is rewritten" in caplog.text


def faulty() -> bytes:
    """It loads, and fails when it runs: nothing is five pixels wide."""
    return net(
        [conv("x", "c"), node("Add", ["c", "five"], ["y"])], {"wc": random(6, 3, 3, 3), "five": random(1, 6, 1, 5)}
    )


def test_a_rewritten_network_that_does_not_run_runs_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "net.onnx").write_bytes(pooled())
    monkeypatch.setattr(onnx_models, "faster", lambda content: faulty())
    session, x = lean_session(tmp_path / "net.onnx", 1), np.ones((1, 3, 8, 8), np.float32)
    rewritten = session._sess
    assert sys.getrefcount(rewritten) > 2
    for _ in range(2):
        assert np.array_equal(session.run(None, {"x": x})[0], output(pooled(), x))
    gc.collect()
    assert sys.getrefcount(rewritten) == 2, "it is held beside the one that runs"
    assert session.get_inputs()[0].name == "x"
    assert [one.message.count("does not run as it is rewritten") for one in caplog.records] == [1]


def test_a_fault_without_the_file_is_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "net.onnx").write_bytes(pooled())
    session = lean_session(tmp_path / "net.onnx", 1)
    (tmp_path / "net.onnx").unlink()
    for _ in range(2):
        with pytest.raises(Exception, match="Got invalid dimensions"):
            session.run(None, {"x": np.ones((1, 4, 8, 8), np.float32)})
    assert not caplog.records and session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})


def test_a_fault_that_is_none_of_the_rewriting_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "net.onnx").write_bytes(pooled())
    session = lean_session(tmp_path / "net.onnx", 1)
    read, loaded = Path.read_bytes, list[Path]()
    monkeypatch.setattr(Path, "read_bytes", lambda path: loaded.append(path) or read(path))
    for _ in range(3):
        with pytest.raises(Exception, match="Got invalid dimensions"):
            session.run(None, {"x": np.ones((1, 4, 8, 8), np.float32)})
    assert len(loaded) == 1, "it is not loaded again with each"
    assert not caplog.records and session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})


def marked(op_type: str, inputs: list[str], outputs: list[str], **more: object) -> object:
    """A layer with a name, a note, and a field that onnx.proto does not have yet."""
    made = node(op_type, inputs, outputs, name=f"name of {outputs[0]}", doc_string="a note", **more)
    made.MergeFromString(b"\xfa\x3f\x05later")  # 127
    return made


def test_what_is_not_rewritten_stays_to_the_byte() -> None:
    plain = net([marked("Relu", ["x"], ["r"]), marked("Sigmoid", ["r"], ["y"])], {})
    assert faster(plain) == plain
    nodes = [node("Identity", ["x"], ["i"]), marked("Relu", ["i"], ["r"]), marked("Sigmoid", ["r"], ["y"])]
    held = [one.SerializeToString() for one in onnx.load_from_string(faster(net(nodes, {}))).graph.node]
    assert held[1] == nodes[2].SerializeToString()
    first = marked("Relu", ["x"], ["r"]).SerializeToString()
    assert sorted(fields(held[0])) == sorted(fields(first)), "of what changed, all but its input"


def test_a_layer_of_another_domain_keeps_it_and_is_none_of_onnx() -> None:
    """QuickGelu of ONNX Runtime's own; an Identity of others may do anything."""
    nodes = [node("Identity", ["x"], ["i"]), node("QuickGelu", ["i"], ["q"], domain="com.microsoft", alpha=1.5)]
    nodes += [node("Identity", ["q"], ["o"], domain="other"), node("Relu", ["o"], ["y"])]
    made = onnx.load_from_string(faster(net(nodes, {}))).graph.node
    assert [(one.domain, one.op_type, *one.input) for one in made] == [
        ("com.microsoft", "QuickGelu", "x"), ("other", "Identity", "q"), ("", "Relu", "o"),
    ]  # fmt: skip


def test_a_network_with_graphs_within_it_stays_as_it_is() -> None:
    """Their layers use tensors around them, and nothing around them says so."""
    value = onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None)
    inner = onnx.helper.make_graph([node("Relu", ["i"], ["t"])], "inner", [], [value])
    nodes = [node("Identity", ["x"], ["i"]), node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    content = net([node("Constant", [], ["c"], value_float=1.0), *nodes], {})
    assert faster(content) == content


def test_what_has_no_end_is_left_alone() -> None:
    """Layers in a circle, as a file that is broken may have them, and a number without an end."""
    circle = [node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Concat", ["a", "b"], ["j"], axis=1)]
    content = net([*circle, node("Conv", ["j", "wc"], ["y"])], {"wc": random(6, 9, 3, 3)})
    twice = net([node("Relu", ["x"], ["y"]), node("Identity", ["x"], ["i"]), node("Relu", ["i"], ["y"])], {})
    for model in (content, twice, b"\xff" * 4_000_000):
        assert faster(model) == model == bytes(without_denormals(model))


def test_every_rewriting_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each changes rapidocr's detector: none is there for nothing."""
    content = wheel_model("det", "this test").read_bytes()
    for name in ("add_rather_than_join", "fill_blocks", "gate_once", "enlarge_last", "stay_in_blocks"):
        with monkeypatch.context() as patch:
            patch.setattr(onnx_rewrite, name, lambda network: None)
            without = faster(content)
        assert without != faster(content), name


@pytest.mark.parametrize(("model", "name"), [(joined(), "bc"), (enlarged(), None), (pooled(), "ba")])
def test_a_bias_of_one_number_for_all_channels(model: bytes, name: str | None) -> None:
    made = onnx.load_from_string(model)
    for one in made.graph.initializer:
        if one.name == name or (name is None and tuple(one.dims)[:1] == (1,) and len(one.dims) == 4):
            one.CopyFrom(onnx.numpy_helper.from_array(random(1, 1, 1, 1), one.name))
    content = made.SerializeToString()
    same(content, faster(content))


@pytest.mark.parametrize("model", [joined(), pooled(), gated()])
def test_weights_that_are_listed_as_inputs_are_none_afterwards(model: bytes) -> None:
    made = onnx.load_from_string(model)
    for one in made.graph.initializer:
        made.graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    content = made.SerializeToString()
    rewritten = faster(content)
    assert [one.name for one in onnx.load_from_string(rewritten).graph.input] == ["x"]
    same(content, rewritten)
