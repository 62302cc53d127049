"""Streams that end of old age, over a real gRPC server and with real nodes."""

import asyncio
import re
from pathlib import Path

import grpc
from hand_edges import good, hand_edges, serving
from PIL import Image
from processes import Cloud, Process, edge_arguments, readings

from cloud_node.settings import CloudSettings, Limits
from lamplight.v1 import enhancement_pb2 as pb


def settings(grace_s: float) -> CloudSettings:
    return CloudSettings(limits=Limits(stream_age_s=1.0), grace_s=grace_s)


async def test_an_old_stream_is_told_then_ends_once_its_frames_are_done() -> None:
    async with serving(settings(grace_s=60)) as (front, address), hand_edges(address) as make:
        front.working = False
        edge = make()
        await edge.open("cam", "s")
        await edge.frame(good())
        assert (await edge.expect("go_away")).go_away.grace_ms == 60_000
        ending = asyncio.create_task(edge.end())
        done, _ = await asyncio.wait([ending], timeout=0.3)
        assert not done and front.streams.live
        front.work()
        assert (await ending)[0] is grpc.StatusCode.OK
        assert front.sequences("cam") == [0]


async def test_a_frame_that_takes_too_long_is_not_waited_for() -> None:
    async with serving(settings(grace_s=0.1)) as (front, address), hand_edges(address) as make:
        front.working = False
        edge = make()
        await edge.open("cam", "s")
        await edge.frame(good())
        await edge.expect("go_away")
        assert (await edge.end())[0] is grpc.StatusCode.OK
        again = make()
        await again.call.write(pb.EdgeMessage(open=pb.Open(edge="cam", session="s", unsettled=[0])))
        assert list((await again.expect("opened")).opened.holding) == [0]


def test_an_edge_that_is_spread_anew_loses_nothing(tmp_path: Path) -> None:
    for number in range(60):
        Image.new("RGB", (160, 120), (number, 8, 8)).save(tmp_path / f"{number:02}.png")
    cloud = Cloud("--preset", "none", "--stream-age-s", "1")
    try:
        out = tmp_path / "out"
        source = ("--detector", "none", "--gate", "off", "--local", "off", "--fps", "15", "--verbose")
        edge = Process(*edge_arguments(cloud.address, tmp_path, out, *source))
        assert edge.wait() == 0, edge.output
        assert sorted(line["sequence"] for line in readings(out)) == list(range(60))
        assert {line["outcome"] for line in readings(out)} == {"enhanced"}
        assert len(re.findall("edges are spread anew", edge.output)) >= 2
        assert "trying again" not in edge.output
    finally:
        cloud.end()
