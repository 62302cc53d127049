import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.frame import Region, Route
from common.settings import load
from edge_node.care import Slowdown
from edge_node.making import Shared, make_node
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown, TerminalLine
from edge_node.sinks.fusing_hint import FRAMES, FusingHint

MakeShown = Callable[..., Shown]


def region(confidence: float, text: str = "EXIT") -> Region:
    return Region(((4.0, 5.0), (40.0, 5.0), (40.0, 20.0), (4.0, 20.0)), 0.9, text, confidence)


def hints(make_shown: MakeShown, caplog: pytest.LogCaptureFixture, *frames: dict, count: int = FRAMES) -> int:
    """How many times it is said over `count` rounds of frames."""
    caplog.clear()
    sink = FusingHint()
    with caplog.at_level(logging.WARNING):
        for sequence in range(count):
            for fields in frames:
                sink.write(make_shown(sequence, **{"path": Route.CLOUD} | fields))
    sink.close()
    assert all("--fuse 8" in record.getMessage() for record in caplog.records)
    return len(caplog.records)


def test_frames_in_which_little_is_sure_are_said_once(make_shown: MakeShown, caplog: pytest.LogCaptureFixture) -> None:
    doubtful = {"regions": (region(0.2), region(0.6))}
    assert hints(make_shown, caplog, doubtful, count=FRAMES - 1) == 0
    assert hints(make_shown, caplog, doubtful, count=5 * FRAMES) == 1
    assert "right in 40 % of the places" in caplog.text
    assert hints(make_shown, caplog, doubtful | {"path": Route.EDGE}) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"regions": (region(0.2), region(0.9))},  # sure enough on the whole
        {"regions": (region(0.2),), "path": Route.NONE},  # bright: more light helps nothing
        {"regions": (region(0.0, ""),)},  # not read
        {"regions": ()},
    ],
)
def test_other_frames_say_nothing(fields: dict, make_shown: MakeShown, caplog: pytest.LogCaptureFixture) -> None:
    assert hints(make_shown, caplog, fields, count=2 * FRAMES) == 0


def test_frames_of_hours_ago_say_nothing_of_now(make_shown: MakeShown, caplog: pytest.LogCaptureFixture) -> None:
    sink = FusingHint()
    with caplog.at_level(logging.WARNING):
        for sequence in range(2 * FRAMES):
            sink.write(replace(make_shown(sequence, path=Route.CLOUD, regions=(region(0.1),)), spooled=True))
    assert not caplog.records


async def test_a_camera_without_fusing_has_it(tmp_path: Path) -> None:
    for flags, expected in (
        (["lavfi:testsrc=size=64x48:rate=5"], 1),
        (["lavfi:testsrc=size=64x48:rate=5", "--fuse", "8"], 0),
    ):
        given = load(EdgeSettings, ["--output", str(tmp_path / "out"), "--source", *flags], {})
        shared = Shared(Reader(None), TerminalLine(), lambda mode: None, Slowdown(), None)
        node = await asyncio.to_thread(make_node, given, shared)
        assert sum(isinstance(sink, FusingHint) for sink in node._arrivals._sinks) == expected
        await asyncio.to_thread(node.source.close)
        await node._arrivals.close()
