"""A whole edge node that watches for a word."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from http_receiver import Receiver
from PIL import Image
from running import run_node
from sights import make_sight

from common.frame import Priority, Reading
from common.settings import load
from edge_node.alerts.alerts import Alerts
from edge_node.alerts.options import alerts
from edge_node.care import Slowdown
from edge_node.making import Shared, make_node
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sights import Sight
from edge_node.sinks import JsonLines, TerminalLine
from edge_node.sinks.options import published
from edge_node.sinks.published import Published
from edge_node.sources import open_source


class Tracker:
    """One sight in all frames, whose text is known from the second one on."""

    def __init__(self) -> None:
        self.sight: Sight | None = None

    def observe(self, reading: Reading, rgb: object, captured_ns: int) -> tuple[Reading, tuple[Sight, ...]]:
        text, at = ("EX1T", reading.captured_unix_ns) if self.sight else ("", reading.captured_unix_ns)
        self.sight = make_sight(text=text, first_unix_ns=at, last_unix_ns=at, best=reading.id)
        return reading, (self.sight,)

    def close(self) -> tuple[Sight, ...]:
        return (replace(self.sight, ended=True),) if self.sight else ()


def bright(folder: Path, count: int) -> Path:
    """Photographs that are read as they are."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(200, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02d}.png")
    return folder


async def test_readings_and_alerts_go_out_and_frames_become_essential(tmp_path: Path) -> None:
    photos = bright(tmp_path / "photos", 20)
    with Receiver() as readings, Receiver() as told:
        given = load(
            EdgeSettings,
            ["--source", str(photos), "--output", str(tmp_path), "--edge", "gate-1", "--local", "only",
             "--webhook", readings.url, "--alert", "exit", "--alert-webhook", told.url],
            {},
        )  # fmt: skip
        elsewhere = published(given.sinks, given.name)
        watchful = alerts(given.alerts, given.sinks, given.name, tmp_path)
        assert elsewhere is not None and watchful is not None
        sinks = [JsonLines(tmp_path / "readings.jsonl"), elsewhere, watchful]
        node = EdgeNode(given, open_source(source=str(photos)), Reader(None), sinks, tracker=Tracker())
        watchful.gate = node.gate
        await run_node(node)
    events = [json.loads(post.body) for post in readings.posts]
    assert [(event["event"], event["sight"]["text"]) for event in events] == [
        ("new", ""),
        ("changed", "EX1T"),
        ("ended", "EX1T"),
    ]
    [alert] = [json.loads(post.body) for post in told.posts]
    assert (alert["alert"], alert["text"], alert["sight"]["id"]) == ("exit", "EX1T", "5f0c-1")
    lines = [json.loads(line) for line in (tmp_path / "readings.jsonl").read_text().splitlines()]
    assert (lines[0]["priority"], lines[-1]["priority"]) == ("standard", Priority.ESSENTIAL.name.lower())
    assert node.gate.watched == ()


async def test_the_command_line_makes_the_sinks_that_are_asked_for(tmp_path: Path) -> None:
    flags = ["--source", str(bright(tmp_path / "photos", 1)), "--output", str(tmp_path / "out"), "--local", "only"]
    for more, expected in ((["--alert", "exit", "--webhook", "http://127.0.0.1:9/"], [Published, Alerts]), ([], [])):
        given, line = load(EdgeSettings, [*flags, *more], {}), TerminalLine()
        node = await asyncio.to_thread(
            make_node, given, Shared(Reader(None), line, lambda mode: None, Slowdown(), None)
        )
        sinks = [sink for sink in node._arrivals._sinks if isinstance(sink, Published | Alerts)]
        assert [type(sink) for sink in sinks] == expected
        assert all(sink.gate is node.gate for sink in sinks if isinstance(sink, Alerts))
        await run_node(node)
