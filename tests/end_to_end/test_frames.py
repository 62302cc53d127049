"""Dark frames go from an edge to a cloud node, come back lit, and are read: real processes, real parts."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import Cloud, Process, dark_sign, edge_arguments, readings

from common.errors import CloudUnavailable, ImageError, SourceError, StreamRefused
from common.packing import ImageFormat
from edge_node.client import Client

STAGES = [
    "source",
    "gate",
    "pack",
    "uplink",
    "ingress",
    "scheduler",
    "engine",
    "publisher",
    "downlink",
    "unpack",
    "reader",
]


def run_edge(*arguments: str, env: dict[str, str] | None = None) -> Process:
    edge = Process(*arguments, env=env)
    assert edge.wait() == 0, edge.output
    return edge


def test_a_folder_is_lit_and_read(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_edge(*edge_arguments(cloud.address, photos, out, "--annotate", "--video"))
    found = readings(out)
    assert [line["name"] for line in found] == ["0.png", "1.png", "2.png", "3.png"]
    for line in found:
        assert line["outcome"] == "enhanced" and line["model"].startswith("fast-")
        assert line["regions"], f"no text found in {line['name']}"
        assert line["sharpness"]["after"] > line["sharpness"]["before"] > 0
        assert [stage for stage in line["stages_ms"] if "/" not in stage] == STAGES
        assert sum(ms for stage, ms in line["stages_ms"].items() if "/" not in stage) <= line["latency_ms"] * 1.05 + 5
        assert line["bytes"]["raw"] == 600 * 400 * 3 > line["bytes"]["up"] > 0 < line["bytes"]["down"]
    assert len(list((out / "annotated").glob("*.jpg"))) == 4
    assert (out / "annotated.mp4").stat().st_size > 1_000


def test_real_plates_at_dusk(cloud: Cloud, shared_data: Path, tmp_path: Path) -> None:
    plates = shared_data / "plates_ro"
    dark = [line.split(",")[0] for line in (plates / "luminance.csv").read_text().splitlines() if line.endswith(",1")]
    folder = tmp_path / "dusk"
    folder.mkdir()
    for name in dark[:3]:
        (folder / name).symlink_to(plates / "images" / name)
    run_edge(*edge_arguments(cloud.address, folder, tmp_path / "out", "--gate", "off"))
    found = readings(tmp_path / "out")
    assert [line["outcome"] for line in found] == ["enhanced"] * 3
    assert all(line["bytes"]["raw"] == 960 * 540 * 3 // 2 for line in found), "JPEG planes travel as they are"


@pytest.mark.parametrize("result_format", ["lossless", "jpeg", "webp"])
def test_every_result_format(cloud: Cloud, photos: Path, tmp_path: Path, result_format: str) -> None:
    out = tmp_path / result_format
    run_edge(
        *edge_arguments(cloud.address, photos / "0.png", out, "--result-format", result_format, "--detector", "none")
    )
    [line] = readings(out)
    assert line["outcome"] == "enhanced" and line["regions"] == []


def test_large_frames_travel_in_parts(cloud: Cloud, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (500, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    out = tmp_path / "out"
    run_edge(
        *edge_arguments(cloud.address, tmp_path / "noise.png", out, "--part-kib", "32", "--result-format", "lossless"),
        "--detector",
        "none",
    )
    [line] = readings(out)
    assert line["outcome"] == "enhanced" and line["bytes"]["up"] > 10 * 32 * 1024


def test_one_frame_is_one_trace(otlp, start, photos: Path, tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint}
    node = start(Cloud, env=env)
    run_edge(*edge_arguments(node.address, photos, tmp_path / "out"), env=env)
    assert node.end() == 0

    traces = defaultdict(list)
    for service, span in otlp.by_service():
        traces[span.trace_id].append((service, span))
    frames = [spans for spans in traces.values() if any(span.name == "frame" for _, span in spans)]
    batches = {span.span_id for spans in traces.values() for _, span in spans if span.name == "batch"}
    assert len(frames) == 4
    for spans in frames:
        [root] = [span for _, span in spans if span.name == "frame"]
        assert not root.parent_span_id
        assert {service for service, _ in spans} == {"lamplight-edge", "lamplight-cloud"}
        by_name = {span.name: (service, span) for service, span in spans}
        assert set(by_name) == {"frame", *STAGES, "sinks"}
        assert all(span.parent_span_id == root.span_id for _, span in spans if span is not root)
        cloud_stages = {name for name, (service, _) in by_name.items() if service == "lamplight-cloud"}
        assert cloud_stages == {"ingress", "scheduler", "engine", "publisher"}
        reader = by_name["reader"][1]
        assert root.start_time_unix_nano <= by_name["source"][1].start_time_unix_nano
        assert root.end_time_unix_nano >= reader.end_time_unix_nano
        assert {link.span_id for link in by_name["engine"][1].links} <= batches
        assert by_name["engine"][1].links


def test_a_video_file_keeps_its_planes(cloud: Cloud, tmp_path: Path) -> None:
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for text in ("ONE", "TWO", "THREE"):
            frame = av.VideoFrame.from_image(dark_sign(text, (320, 240)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    run_edge(*edge_arguments(cloud.address, path, tmp_path / "out", "--detector", "none"))
    found = readings(tmp_path / "out")
    assert [line["name"] for line in found] == ["clip.mp4#0", "clip.mp4#1", "clip.mp4#2"]
    assert all(line["bytes"]["raw"] == 320 * 240 * 3 // 2 for line in found)


def test_a_camera_and_the_limit(cloud: Cloud, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_edge(
        "-m", "edge_node", "--camera", "lavfi:testsrc=size=320x240:rate=20", "--cloud", cloud.address,
        "--output", str(out), "--limit", "5", "--detector", "none", "--edge", "camera", "--gate", "off",
    )  # fmt: skip
    found = readings(out)
    assert 1 <= len(found) <= 5 and {line["outcome"] for line in found} == {"enhanced"}


def test_several_cameras_in_one_process(start, cloud: Cloud, tmp_path: Path) -> None:
    """One of them is not there: it is waited for and the others go on."""
    out = tmp_path / "out"
    edge = start(
        Process,
        "-m", "edge_node", "--camera", "lavfi:testsrc=size=320x240:rate=20", "--camera", "97",
        "--source", "lavfi:testsrc2=size=160x120:rate=20", "--cloud", cloud.address,
        "--output", str(out), "--detector", "none", "--edge", "gate",
    )  # fmt: skip
    edge.wait_for("there is no camera 97")
    edge.wait_until(lambda: all(len(readings(out / f"gate-{number}")) >= 3 for number in (0, 2)))
    assert edge.end() == 0, edge.output
    for number, size in ((0, 320 * 240 * 3), (2, 160 * 120 * 3 // 2)):
        found = readings(out / f"gate-{number}")
        assert {line["edge"] for line in found} == {f"gate-{number}"}
        assert {line["bytes"]["raw"] for line in found} == {size}
    assert "camera 97: frames: 0 enhanced" in edge.output and "now: there is no camera 97" in edge.output


def test_new_files_of_a_folder(start, cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "uploads"
    folder.mkdir()
    edge = start(Process, *edge_arguments(cloud.address, folder, out, "--detector", "none", "--watch"))
    for number in range(4):
        (photos / f"{number}.png").rename(folder / f"{number}.png")
        edge.wait_until(lambda number=number: len(readings(out)) == number + 1)
    assert edge.end() == 0, edge.output
    assert [line["name"] for line in readings(out)] == [f"{number}.png" for number in range(4)]


def test_priorities_reach_the_reading(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_edge(*edge_arguments(cloud.address, photos / "1.png", out, "--priority", "essential", "--detector", "none"))
    assert [line["priority"] for line in readings(out)] == ["essential"]


def test_a_deadline_that_passes_is_told(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_edge(*edge_arguments(cloud.address, photos, out, "--deadline-ms", "1", "--local", "off"))
    found = readings(out)
    assert len(found) == 4
    assert all(line["outcome"] == "expired" and "deadline" in line["reason"] for line in found)


# --- a single picture ---


def test_a_single_picture(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    dark = np.asarray(dark_sign("SINGLE"))
    with Client(cloud.address) as client:
        from_file = client.enhance(photos / "0.png")
        from_array = client.enhance(dark, result_format=ImageFormat.JPEG, quality=95)
    assert from_file.rgb.shape == from_array.rgb.shape == (400, 600, 3)
    assert from_array.rgb.mean() > 3 * dark.mean()
    from_file.save(tmp_path / "lit.jpg")
    with Image.open(tmp_path / "lit.jpg") as saved:
        assert saved.size == (600, 400)


def test_a_single_picture_from_the_command_line(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "lit.png"
    edge = run_edge("-m", "edge_node", "enhance", str(photos / "2.png"), str(target), "--cloud", cloud.address)
    assert "fast-" in edge.output and target.stat().st_size > 10_000


def test_single_pictures_that_cannot_be(cloud: Cloud, free_port: int, tmp_path: Path) -> None:
    with Client(cloud.address) as client:
        with pytest.raises(ImageError, match="not an image"):
            client.enhance(b"no picture")
        with pytest.raises(ImageError, match="cannot be read"):
            client.enhance(tmp_path / "nowhere.jpg")
        with pytest.raises(StreamRefused, match="results come as"):
            client.enhance(np.zeros((20, 20, 3), np.uint8), result_format=ImageFormat.PNG)
        lit = client.enhance(np.zeros((20, 20, 3), np.uint8))
        with pytest.raises(SourceError, match="cannot write"):
            lit.save(tmp_path / "no folder" / "x.png")
    with (
        Client(f"127.0.0.1:{free_port}", timeout_s=10) as nobody,
        pytest.raises(CloudUnavailable, match="Start a node"),
    ):
        nobody.enhance(np.zeros((20, 20, 3), np.uint8))


def test_health_and_reflection(cloud: Cloud) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with grpc.insecure_channel(cloud.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "lamplight.v1.Enhancement"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        [reply] = reflection.ServerReflectionInfo(iter([request]), timeout=10)
        assert "lamplight.v1.Enhancement" in {service.name for service in reply.list_services_response.service}


def test_readings_are_json_lines(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        run_edge(*edge_arguments(cloud.address, photos / "0.png", out))
    lines = (out / "readings.jsonl").read_text().splitlines()
    assert len(lines) == 2, "a second run adds to the file"
    assert len({json.loads(line)["frame"] for line in lines}) == 2
