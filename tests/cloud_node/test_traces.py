"""Which traces a cloud node keeps of its own accord: here none is sampled."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hand_edges import good, hand_edges, rules, serving
from results import make_result

from cloud_node.fates import Fates
from cloud_node.metrics import Activity
from cloud_node.settings import CloudSettings, Window
from cloud_node.streams import Streams
from common import telemetry
from common.telemetry import Sampling

TRACEPARENT = f"00-{'1' * 32}-{'2' * 16}-00"


@pytest.fixture
def tracing(otlp, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    telemetry.start("lamplight-cloud", "node", Sampling(0.0, 10**9))
    yield otlp
    telemetry.stop()


async def test_a_frame_that_is_refused_is_kept_with_the_reason(tracing) -> None:
    async with serving(policy=rules(cam={"frames_per_s": 0.001})) as (_, address), hand_edges(address) as make:
        edge = make()
        await edge.open("cam", "s")
        for sequence in range(30):
            frame = good(sequence)
            frame.trace.traceparent = TRACEPARENT
            await edge.frame(frame)
            if getattr(await edge.verdict(), "reason", 0):
                break
    telemetry.stop()
    [ingress] = [span for span in tracing.spans() if span.name == "ingress"]
    about = {item.key: item.value.string_value for item in ingress.attributes}
    assert ingress.trace_id.hex() == "1" * 32 and about["lamplight.refused"]


@pytest.mark.parametrize(("waited_ms", "kept"), [(10, 0), (990, 1), (5_000, 1)])
def test_a_result_that_waited_for_nats_is_slow(tracing, waited_ms: int, kept: int) -> None:
    fates = Fates(CloudSettings(), Activity(), Streams(Window(), 1))
    made = make_result(0, trace={"traceparent": TRACEPARENT})
    fates.published(replace(made, stages_ns={"engine": 20_000_000, "engine/enhance": 10**9}), 0, waited_ms * 1_000_000)
    telemetry.stop()
    assert [span.name for span in tracing.spans()] == ["publisher"] * kept
