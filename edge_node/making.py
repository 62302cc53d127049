"""An edge node of its settings: source, tracker, and every place where its readings go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.identity import login_of
from edge_node.alerts.options import alerts
from edge_node.care import Slowdown
from edge_node.local_enhancer import LocalEnhancer
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.readings.sink import KeptReadings
from edge_node.record import Bound
from edge_node.route import LocalMode
from edge_node.settings import EdgeSettings
from edge_node.sinks import AnnotatedImages, AnnotatedVideo, JsonLines, Sink, TerminalLine, WhileRoom
from edge_node.sinks.annotated_images import picture_name
from edge_node.sinks.fusing_hint import FusingHint
from edge_node.sinks.options import published
from edge_node.sources import open_source
from edge_node.sources.fused import fuse
from edge_node.tracking.options import tracker_of

if TYPE_CHECKING:
    from edge_node.live.page import LivePage


@dataclass(frozen=True, slots=True)
class Shared:
    """What the nodes of one process have in common."""

    reader: Reader
    line: Sink  # in the terminal
    enhancer: Callable[[LocalMode], LocalEnhancer | None]
    slowdown: Slowdown
    page: "LivePage | None"  # loaded where one is asked for


def make_node(given: EdgeSettings, shared: Shared) -> EdgeNode:
    """Raises LamplightError for whatever it lacks."""
    source = open_source(
        given.camera, given.source,
        size=given.camera_size, loop=given.loop, watch=given.watch, live=given.live,
        fps=given.fps * max(1, given.fusing.fuse), thin=given.fusing.fuse <= 1,
    )  # fmt: skip
    tracker = tracker_of(given.tracking, source)
    source = fuse(source, given.fusing.fuse)
    if isinstance(shared.line, TerminalLine):
        shared.line.total = min(filter(None, (source.total, given.limit)), default=None)
    folder, login = given.output.output, login_of(given.identity, given.name)
    bound = Bound(given.kept.jsonl_mib, given.kept.keep_days)
    sinks: list[Sink] = [JsonLines(folder / "readings.jsonl", bound=bound), shared.line, *_pictures(given, folder)]
    sinks += _kept(given, folder)
    if source.live and given.fusing.fuse <= 1:
        sinks.append(FusingHint())
    if (elsewhere := published(given.sinks, given.name, login)) is not None:
        sinks.append(elsewhere)
    shows = [shared.line]
    if shared.page is not None:
        shows.append(shared.page.camera(given.name))
        sinks.append(shows[-1])
    watchful = alerts(given.alerts, given.sinks, given.name, folder, shows=shows, login=login)
    if watchful is not None:
        sinks.append(watchful)
    enhancer = shared.enhancer(given.choosing.local)
    page = shared.page
    node = EdgeNode(
        given, source, shared.reader, sinks, enhancer,
        slowdown=shared.slowdown, tracker=tracker, watched=lambda: page is not None and bool(page.viewers),
    )  # fmt: skip
    if tracker is not None:
        tracker.session = node.session
    if watchful is not None:
        watchful.gate = node.gate
    return node


def _pictures(given: EdgeSettings, folder: Path) -> list[Sink]:
    made: list[Sink] = []
    if given.output.annotate:
        made.append(AnnotatedImages(folder / "annotated"))
    if given.output.video:
        made.append(AnnotatedVideo(folder / "annotated.mp4", given.fps or 10.0))
    return [WhileRoom(sink, folder, given.care.min_free_mib) for sink in made]


def _kept(given: EdgeSettings, folder: Path) -> list[Sink]:
    """The sink that keeps readings to be searched."""
    if not given.kept.keep_readings:
        return []
    return [
        KeptReadings(
            folder,
            days=given.kept.keep_days,
            mib=given.kept.readings_mib,
            min_free_mib=given.care.min_free_mib,
            picture_of=(lambda shown: f"annotated/{picture_name(shown.reading)}") if given.output.annotate else None,
        )
    ]
