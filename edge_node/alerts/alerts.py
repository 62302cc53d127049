"""The sink that raises alerts."""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_node.alerts.alert import Alert, message_of
from edge_node.alerts.journal import Journal
from edge_node.alerts.patterns import Pattern, matching
from edge_node.areas import Area
from edge_node.gate import Gate
from edge_node.sights import Sight
from edge_node.sinks.outlet import Outlet, close_all
from edge_node.sinks.sink import AlertSink, Shown

log = logging.getLogger(__name__)

REMEMBERED: Final = 4096  # sights that have not ended, at most
NOW_NS: Final = 60_000_000_000  # a sight seen longer ago, read from the spool, says nothing of what is in sight
MARGIN: Final = 0.02  # of the frame, around the text


@dataclass(slots=True)
class _Seen:
    text: str = ""
    raised: set[str] = field(default_factory=set)


class Alerts:
    """Looks for patterns in the text of sights. Each pattern raises one alert in each sight; then the alert is kept,
    shown, and handed to every outlet, and frames are essential while the sight lives.

    Args:
        outlets: by the name under which the journal notes what arrived.
        shows: sinks that show alerts.

    `counts` has how often each pattern was found.
    """

    def __init__(
        self,
        patterns: Sequence[Pattern],
        journal: Journal,
        outlets: Mapping[str, Outlet],
        shows: Sequence[AlertSink] = (),
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.gate: Gate | None = None
        self._patterns, self._journal, self._outlets, self._shows = patterns, journal, outlets, shows
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._closed = False
        for name, waiting in journal.undelivered(outlets).items():
            for told in waiting:
                outlets[name].put(message_of(told))
            if waiting:
                log.warning("%d alerts of a former run are sent now: %s", len(waiting), outlets[name].name)

    def write(self, shown: Shown) -> None:
        """Alerts are of sights, whose text is voted over frames."""

    def sights(self, changed: Sequence[Sight]) -> None:
        for sight in changed:
            seen = self._seen.setdefault(sight.id, _Seen())
            if sight.text != seen.text:
                found, all_looked = matching(self._patterns, sight.text)
                seen.text = sight.text if all_looked else ""  # else again when it is told of next
                for pattern in found:
                    if pattern.text not in seen.raised:
                        seen.raised.add(pattern.text)
                        self._raise(Alert(pattern.text, sight, time.time_ns()))
            self._watch(sight, bool(seen.raised))
            if sight.ended:
                del self._seen[sight.id]
            elif len(self._seen) > REMEMBERED:
                self._forget(next(iter(self._seen)))

    def close(self) -> None:
        """Delivers what waits, for a few seconds at most; the rest is sent by the next run."""
        if not self._closed:
            self._closed = True
            close_all(self._outlets.values())
            self._journal.close()

    def _raise(self, alert: Alert) -> None:
        self.counts[alert.pattern] += 1
        log.warning("alert: %s (%s, %s)", alert.words, alert.sight.edge, alert.id)
        told = alert.to_json()
        self._journal.raised(told)  # first: what is not delivered must be known to the next run
        for outlet in self._outlets.values():
            outlet.put(message_of(told))
        for sink in self._shows:
            sink.alerted(told)

    def _watch(self, sight: Sight, alerted: bool) -> None:
        if self.gate is None:
            return
        if sight.ended or not alerted or time.time_ns() - sight.last_unix_ns > NOW_NS:
            self.gate.unwatch(sight.id)
        else:
            self.gate.watch(sight.id, area_of(sight))

    def _forget(self, sight: str) -> None:
        del self._seen[sight]
        if self.gate is not None:
            self.gate.unwatch(sight)


def area_of(sight: Sight) -> Area:
    """The rectangle around a sight in its best view, with a margin; fractions of the frame."""
    width, height = sight.size
    xs = [min(max(x / max(width, 1), 0.0), 1.0) for x, _ in sight.polygon] or [0.0, 1.0]
    ys = [min(max(y / max(height, 1), 0.0), 1.0) for _, y in sight.polygon] or [0.0, 1.0]
    left, top = max(min(xs) - MARGIN, 0.0), max(min(ys) - MARGIN, 0.0)
    return Area(left, top, min(max(xs) + MARGIN, 1.0) - left, min(max(ys) + MARGIN, 1.0) - top)
