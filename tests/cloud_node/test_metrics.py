"""A cloud node's metrics, read from its real parts."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from devices import House, PlainEngine, make_job
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from cloud_node import live
from cloud_node.admission import Admission
from cloud_node.jobs import ticket
from cloud_node.live import LivePage, percentile
from cloud_node.load import Load
from cloud_node.metrics import Activity, sources
from cloud_node.policy import Policy
from cloud_node.publisher import Publisher
from cloud_node.settings import CloudSettings
from cloud_node.streams import Streams
from common.frame import Outcome, Priority
from common.metrics import Meters
from lamplight.v1 import enhancement_pb2 as pb


class Node:
    """The parts of a node, with two devices that run nothing."""

    def __init__(self) -> None:
        self.house, self.activity = House(PlainEngine), Activity()
        settings = CloudSettings()
        self.scheduler, self.supervisor = self.house.scheduler, self.house.supervisor
        self.streams = Streams(settings.window, 2_000)
        self.admission = Admission(
            settings, Policy(), self.scheduler, Load(), self.streams,
            ticket=ticket, devices=lambda: 1, wake=lambda: None,
        )  # fmt: skip
        self.publisher = Publisher(None)  # type: ignore[arg-type]  # nothing is published here
        self.parts = (self.scheduler, self.supervisor, self.admission, self.streams, self.publisher)
        read = sources(self.activity, *self.parts, ready=lambda: True, connected=lambda: False)
        self.meters = Meters("cloud", read, service="s", instance="i", prometheus=True)
        self.activity.observe = self.meters.observe

    def scrape(self) -> dict[str, float]:
        """Values by name and labels."""
        return {
            f"{sample.name.removeprefix('lamplight_cloud_')}{sorted(sample.labels.values())}": sample.value
            for family in text_string_to_metric_families(self.meters.scrape().decode())
            for sample in family.samples
        }


@pytest.fixture
async def node() -> "Iterator[Node]":
    made = Node()
    yield made
    made.meters.stop()


async def test_what_happens_is_counted(node: Node) -> None:
    device = node.supervisor.workers[0].name
    before = node.scrape()
    job = make_job(1, priority=Priority.ESSENTIAL)
    assert node.admission.admit(job, 10, 10, job.arrived_ns - 3 * 10**9) is None
    result = job.result(Outcome.ENHANCED, model="m")
    node.publisher.submit(result)
    node.activity.on_batch(device, 200, 2 * 10**9, 2)
    node.activity.on_settled(result)
    node.activity.on_delivered(result, 40_000_000)
    stream = await node.streams.join("cam", "s")
    stream.charge(77)
    stream.reject(1, 0, pb.REJECT_REASON_LIMIT, "too many")
    after = node.scrape()
    changed = {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}
    for key, change in {
        "frames_received_total[]": 1, "received_bytes_total[]": 77, "edges[]": 1, "streams_opened_total[]": 1,
        "frames_rejected_total['limit']": 1, "frames_settled_total['enhanced', 'essential']": 1,
        "queue_frames['essential']": 1, "spool_results['essential']": 1,
        f"device_busy_seconds_total['{device}']": 2, f"device_pixels_total['{device}']": 200,
        f"batch_frames_bucket['2.0', '{device}']": 1, f"batch_frames_sum['{device}']": 2,
        "frame_duration_seconds_count['essential']": 1,
    }.items():  # fmt: skip
        assert changed.pop(key) == change, key
    assert after["queue_oldest_seconds['essential']"] > 0 and after["spool_oldest_seconds[]"] > 0
    assert not any(key.startswith(("frames", "results", "device")) for key in changed), changed


async def test_a_thousand_edges_add_no_series(node: Node) -> None:
    before = node.scrape()
    for number in range(1_000):
        await node.streams.join(f"edge-{number}", "s")
    after = node.scrape()
    assert after.keys() == before.keys() and after["edges[]"] == 1_000


async def test_a_point_a_second_and_what_the_page_is_sent(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    page = LivePage(node.activity, *node.parts, status=lambda: {"ready": True})
    device = node.supervisor.workers[0].name
    page._before = (page._before[0] - 2.0, *page._before[1:])  # two seconds ago
    for milliseconds in (10, 20, 400):
        job = make_job()
        job.timeline.stages_ns["engine"] = milliseconds * 1_000_000
        result = job.result(Outcome.ENHANCED)
        node.activity.on_settled(result)
        node.activity.on_delivered(result)
    node.activity.on_batch(device, 1, 10**9, 3)
    page.tick()
    [point] = page.points
    assert (point["p50"], point["p95"], point["batch"]) == (20.0, 400.0, 3.0)
    assert point["done"] == pytest.approx(1.5, rel=0.2) and point["use"][device] == pytest.approx(0.5, rel=0.2)
    assert abs(point["t"] - time.time()) < 60

    for number in range(live.EDGES + 5):
        stream = await node.streams.join(f"edge-{number}", "s")
    events = page._events()
    assert '"points":[{' in await anext(events)
    page.tick()
    stream.charge(5)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    page.tick()
    told = await asyncio.wait_for(waiting, 60)
    assert told.startswith("event: now\ndata: {") and told.endswith("}\n\n")
    assert f'"edges":[{{"edge":"edge-{number}","frames":1,"rate":1.0,' in told, "the busiest first"
    assert told.count('"rate"') == live.EDGES

    monkeypatch.setattr(live, "VIEWERS", 1)
    route = next(route for route in page.routes(bytes) if route.path == "/live/events")
    assert (await route.endpoint(Request({"type": "http"}))).status_code == 503, "one more page is too many"
    await page.stop()
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert page._viewers == 0


def test_percentiles_of_few() -> None:
    assert percentile([5.0], 0.5) == percentile([5.0], 0.95) == 5.0
