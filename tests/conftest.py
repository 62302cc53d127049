"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import hypothesis
import ports
import pytest
from examples import examples
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

# What takes longest, and shares a node or a machine of its own: with which of the workers each begins.
LEADS = (
    ("tests/end_to_end/",),
    ("tests/docs/test_commands.py", "tests/faults/", "tests/links/"),
    (
        "tests/cloud_node/archive/",
        "tests/cloud_node/backends/",
        "tests/cloud_node/test_device_",
        "tests/edge_node/live/",
    ),
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal tests out for `--dist worksteal`, which gives each worker its share in their order and evens out the ends.

    So nothing long is left for the end, where one worker alone would have it, and nothing is begun on two workers.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    rest: list[pytest.Item] = []
    for item in items:
        lead = next((number for number, starts in enumerate(LEADS) if item.nodeid.startswith(starts)), None)
        (rest if lead is None else shares[lead % workers]).append(item)
    for share in shares:
        room = max(0, len(items) // workers - len(share))
        share += rest[:room]
        del rest[:room]
    items[:] = [item for share in [*shares, rest] for item in share]


@pytest.fixture
def shared_data() -> Path:
    """Real photographs beside the checkout; skips where there are none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no photographs at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def free_port() -> int:
    """A port of loopback that nobody listens on."""
    return ports.free_port()


class _MetricsReceiver(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self) -> None:
        self.requests: list = []

    def Export(self, request, context):
        self.requests.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """A real OTLP/gRPC receiver that keeps what it gets."""

    def __init__(self) -> None:
        self._requests: list = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self._metrics = _MetricsReceiver()
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self._metrics, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request, context):
        self._requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def metrics(self) -> dict:
        """What was pushed last, by name."""
        return {
            metric.name: metric
            for request in list(self._metrics.requests)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def resources(self) -> Iterator:
        for request in list(self._requests):
            yield from request.resource_spans

    def spans(self) -> list:
        return [span for resource in self.resources() for scope in resource.scope_spans for span in scope.spans]

    def services(self) -> set[str]:
        """service.name of everything that reported."""
        return {service for service, _ in self.by_service()}

    def by_service(self) -> list[tuple[str, object]]:
        """(service.name, span) of every span."""
        found = []
        for resource in self.resources():
            [service] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            found += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return found

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    yield receiver
    receiver.close()
