"""What an edge tells of itself, and to whom."""

import http.client
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from common.errors import SettingsError
from common.frame import FrameId, Outcome, Priority, Reading
from common.settings import load
from edge_node.metrics import measured
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings, Telling
from edge_node.sources import open_source
from lamplight.v1 import enhancement_pb2 as pb


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EdgeNode:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    source = str(tmp_path / "dark.png")
    Image.new("RGB", (96, 64)).save(source)
    settings = load(EdgeSettings, ["--source", source, "--edge", "gate", "--output", str(tmp_path)], {})
    return EdgeNode(settings, open_source(source=source), Reader(None), [])


def ask(port: int, host: str = "localhost") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics", headers={"Host": host})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "192.168.1.20:9464", "[::]:9464", "camera-box:9464"])
def test_metrics_for_others_must_be_meant(address: str) -> None:
    flags = ["--camera", "0", "--metrics-port", address]
    with pytest.raises(SettingsError, match="--metrics-open"):
        load(EdgeSettings, flags, {})
    assert load(EdgeSettings, [*flags, "--metrics-open"], {}).telling.metrics_address


def test_on_loopback_nothing_has_to_be_said() -> None:
    for address in ("9464", "127.0.0.1:9464", "localhost:9464", "[::1]:9464"):
        assert load(EdgeSettings, ["--camera", "0", "--metrics-port", address], {}).telling.metrics_address


async def test_on_loopback_other_names_are_refused(node: EdgeNode, free_port: int) -> None:
    async with measured([node], Telling(metrics_port=str(free_port))):
        for host in ("localhost", f"127.0.0.1:{free_port}", "[::1]:9464"):
            assert ask(free_port, host)[0] == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.7:9464", "", "["):
            assert ask(free_port, host)[0] == 421, host


async def test_open_ones_answer_to_any_name(node: EdgeNode, free_port: int) -> None:
    async with measured([node], Telling(metrics_port=f"0.0.0.0:{free_port}", metrics_open=True)):
        assert ask(free_port, "edge:9464")[0] == 200


async def test_whoever_sends_results_makes_no_series(node: EdgeNode, free_port: int) -> None:
    async with measured([node], Telling(metrics_port=str(free_port))):
        for number in range(50):
            stages = {"engine": 10**6, f"stage {number}": 10**6, "engine/part": 1}
            node.activity.on_reading(
                Reading(FrameId("gate", "s", 1), "a", 0, Priority.STANDARD, Outcome.ENHANCED, stages_ns=stages)
            )
        families = text_string_to_metric_families(ask(free_port)[1])
    stages = {s.labels["stage"] for family in families for s in family.samples if "stage" in s.labels}
    assert stages == {"engine"}


async def test_what_a_camera_drops_is_counted(node: EdgeNode, free_port: int) -> None:
    node.source.status.dropped, node.source.status.thinned, node.captured.dropped = 7, 5, 3
    async with measured([node], Telling(metrics_port=str(free_port))):
        families = text_string_to_metric_families(ask(free_port)[1])
        samples = [s for family in families for s in family.samples if s.name == "lamplight_edge_frames_dropped_total"]
    dropped = {sample.labels["reason"]: sample.value for sample in samples}
    assert dropped["replaced at the source"] == 7 and dropped["left out by --fps"] == 5
    assert dropped["replaced by a newer one"] == 3


async def test_unused_results_are_counted_over_every_downlink(node: EdgeNode) -> None:
    for number in range(3):
        node._results.listen(pb.ResultsAddress(servers=[f"nats://127.0.0.1:{number + 1}"]))
        assert node._results._downlink is not None
        node._results._downlink.duplicates += 2
        node._results._downlink.foreign += 1
    assert node.downlink_counts == {"duplicates": 6, "errors": 0, "foreign": 3, "incomplete": 0}
    await node._close([])
