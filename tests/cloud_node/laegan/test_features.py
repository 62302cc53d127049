import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cloud_node.laegan import WeightsError
from cloud_node.laegan.dbnet import DetectorTwin
from cloud_node.laegan.features import BackboneFeatures, VGG16Features, load_weights, preservation_features
from common.onnx_models import wheel_model

CONFIGURATION = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def torchvision_trunk() -> nn.Sequential:
    """VGG-16's `features`, laid out and so numbered as torchvision does."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for entry in CONFIGURATION:
        if isinstance(entry, int):
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight)
            channels = entry
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def trunk() -> nn.Sequential:
    return torchvision_trunk()


@pytest.fixture(scope="module")
def weights(trunk: nn.Sequential) -> dict[str, Tensor]:
    classifier = {"classifier.0.weight": torch.zeros(1)}
    return {f"features.{name}": value for name, value in trunk.state_dict().items()} | classifier


@pytest.fixture(scope="module")
def files(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vgg.pth and vgg.safetensors, and small.pth for what needs no network."""
    folder = tmp_path_factory.mktemp("vgg")
    torch.save(weights, folder / "vgg.pth")
    save_file(weights, folder / "vgg.safetensors")
    torch.save({"a": torch.arange(3.0)}, folder / "small.pth")
    (folder / "half.pth").write_bytes((folder / "small.pth").read_bytes()[:300])
    return folder


@pytest.fixture
def server(files: Path) -> Iterator[str]:
    """A real web server for `files`: its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(files))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def rgb() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def test_is_vgg_16_at_relu5_1(trunk: nn.Sequential, weights: dict[str, Tensor], rgb: Tensor) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = trunk[:26]((rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert expected.shape == (2, 512, 2, 3)
    torch.testing.assert_close(VGG16Features(weights, pool4=True)(rgb), expected)


def test_by_default_without_the_fourth_pooling(trunk: nn.Sequential, weights: dict[str, Tensor], rgb: Tensor) -> None:
    layers = [layer for index, layer in enumerate(trunk[:26]) if index != 23]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = nn.Sequential(*layers)((rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert expected.shape == (2, 512, 4, 6)
    torch.testing.assert_close(VGG16Features(weights)(rgb), expected)


def test_gradient_reaches_the_frame_and_nothing_else(weights: dict[str, Tensor], rgb: Tensor) -> None:
    vgg = VGG16Features(weights)
    assert list(vgg.parameters()) == [] and vgg.state_dict() == {}
    vgg(rgb.requires_grad_()).sum().backward()
    assert rgb.grad is not None and (rgb.grad.flatten(2).norm(dim=2) > 0).all()


@pytest.mark.parametrize("name", ["vgg.pth", "vgg.safetensors"])
def test_from_a_file_and_its_address(name: str, files: Path, weights: dict[str, Tensor], rgb: Tensor) -> None:
    expected = VGG16Features(weights)(rgb)
    assert torch.equal(VGG16Features(files / name)(rgb), expected)
    assert torch.equal(VGG16Features((files / name).as_uri())(rgb), expected)


def test_an_address_with_a_space(files: Path, tmp_path: Path) -> None:
    copy = tmp_path / "my weights.pth"
    copy.write_bytes((files / "small.pth").read_bytes())
    assert load_weights(copy.as_uri())["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 32, 32), (1, 3, 15, 32)])
def test_other_frames_are_refused(weights: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="H, W >= 16"):
        VGG16Features(weights)(torch.zeros(shape))


def test_what_is_not_vgg_16(weights: dict[str, Tensor], files: Path) -> None:
    with pytest.raises(WeightsError, match=r"features\.24\.bias is missing, expected \(512,\)"):
        VGG16Features({name: value for name, value in weights.items() if name != "features.24.bias"})
    with pytest.raises(WeightsError, match=r"features\.2\.weight is \(64, 64, 1, 1\), expected \(64, 64, 3, 3\)"):
        VGG16Features(weights | {"features.2.weight": torch.zeros(64, 64, 1, 1)})
    with pytest.raises(WeightsError, match=r"small\.pth is not torchvision's VGG-16"):
        VGG16Features(files / "small.pth")


def test_files_that_hold_no_weights(files: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_weights(str(tmp_path / "none.pth"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((files / "vgg.safetensors").read_bytes()[:1000])
    for path in (files / "half.pth", broken):
        with pytest.raises(WeightsError, match=f"{path.name} is truncated"):
            load_weights(str(path))
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "checkpoint.pth")
    for name in ("list.pth", "checkpoint.pth"):
        with pytest.raises(WeightsError, match=f"{name} holds no state dict"):
            load_weights(str(tmp_path / name))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": nn.ReLU()}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match=r"code\.pth .*[Ww]eights"):
        load_weights(str(tmp_path / "code.pth"))


def test_a_download_is_kept(server: str, files: Path, tmp_path: Path) -> None:
    url = f"{server}/small.pth?version=1"
    assert load_weights(url, tmp_path)["a"].tolist() == [0, 1, 2]
    [kept] = tmp_path.rglob("*.pth")
    torch.save({"a": torch.zeros(1)}, kept)  # read again from there, not from the server
    assert load_weights(url, tmp_path)["a"].tolist() == [0]


def test_addresses_of_the_same_name_are_kept_apart(server: str, files: Path, tmp_path: Path) -> None:
    (files / "other").mkdir()
    torch.save({"a": torch.ones(1)}, files / "other" / "small.pth")
    first, second = load_weights(f"{server}/small.pth", tmp_path), load_weights(f"{server}/other/small.pth", tmp_path)
    assert (first["a"].tolist(), second["a"].tolist()) == ([0, 1, 2], [1])


def test_the_checksum_in_a_name(server: str, files: Path, tmp_path: Path) -> None:
    data = (files / "small.pth").read_bytes()
    good, bad = f"vgg-{hashlib.sha256(data).hexdigest()[:8]}.pth", "vgg-00000000.pth"
    for name in (good, bad):
        (files / name).write_bytes(data)
    assert load_weights(f"{server}/{good}", tmp_path)["a"].tolist() == [0, 1, 2]
    with pytest.raises(WeightsError, match=r"vgg-00000000\.pth .* is broken.* delete it"):
        load_weights(f"{server}/{bad}", tmp_path)
    (tmp_path / good).write_bytes(data[:-1])
    with pytest.raises(WeightsError, match="is broken"):
        load_weights(f"{server}/{good}", tmp_path)


def test_an_address_that_does_not_answer(server: str, free_port: int, tmp_path: Path) -> None:
    for url, reason in ((f"{server}/none.pth", "404"), (f"http://127.0.0.1:{free_port}/vgg.pth", "refused")):
        with pytest.raises(WeightsError, match=f"cannot download {url}: .*{reason}.*give the file"):
            load_weights(url, tmp_path)
    assert list(tmp_path.rglob("*.pth")) == []


def test_backbone_of_the_detector(rgb: Tensor) -> None:
    extractor = preservation_features(None, wheel_model("det", "the test"))
    assert isinstance(extractor, BackboneFeatures)
    features = extractor(rgb)  # 48 is padded to 64
    assert [tuple(f.shape) for f in features] == [(2, 96, 4, 8), (2, 192, 2, 4)]
    padded = F.pad(rgb, (0, 16, 0, 0), mode="replicate")
    expected = DetectorTwin(wheel_model("det", "the test")).features(padded)[1:3]
    assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))


def test_vgg_where_it_is_given(files: Path, rgb: Tensor) -> None:
    extractor = preservation_features(str(files / "vgg.pth"), wheel_model("det", "the test"))
    assert isinstance(extractor, VGG16Features) and extractor(rgb).shape == (2, 512, 4, 6)
    with pytest.raises(WeightsError, match="there is no detector file"):
        preservation_features(None, Path("none.onnx"))
