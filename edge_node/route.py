"""Where dark frames are lit up, in the cloud or here: pure, the clock's reading goes in and a route comes out.

The cloud goes first. This device takes over when no stream has been open for a while, and when results stay out or
come too late for the deadline; frames that are on their way then are taken over too. The cloud goes first again as
soon as a stream is open (after it was away) or results come in time (after it was slow: one frame in a while keeps
being sent, to see that).
"""

import math
import statistics
from collections import deque
from enum import Enum
from typing import Final

from common.frame import Route

AWAY: Final = "the cloud is away"
AWAY_S: Final = 2.0  # without a stream before this device takes over
PROBE_S: Final = 2.0  # between frames that are sent to see whether a slow cloud is fast again
MISSES: Final = 2  # results in a row that did not come in time
RECENT: Final = 8  # results that the usual age is taken from
PATIENCE: Final = 4.0  # without a deadline: times the usual age
LEAST_PATIENCE_S: Final = 3.0
FIRST_PATIENCE_S: Final = 10.0  # before anything is usual
MARGIN: Final = 1.2  # times the usual age, before which a frame is not given up even if its deadline is near
BACK: Final = 0.8  # of the time there is: results must come in this before a slow cloud goes first again
FIRST_SECONDS: Final = 0.2  # to light up and read, before it was measured
SMOOTHING: Final = 0.3


class LocalMode(Enum):
    """Whether frames are lit up on this device."""

    AUTO = "auto"  # when the cloud cannot
    OFF = "off"  # never: they wait
    ONLY = "only"  # always: there is no cloud node


class Router:
    """The route of dark frames; `reason` says in words why it is not the cloud.

    Args:
        deadline_s: of every frame, from its capture to its reading; 0 = none.
        now: seconds of a clock that never jumps, as everywhere here.
    """

    def __init__(self, mode: LocalMode, deadline_s: float, now: float) -> None:
        self.mode, self.deadline_s = mode, deadline_s
        self.route = Route.EDGE if mode is LocalMode.ONLY else Route.CLOUD
        self.reason = ""
        self._broken_s: float | None = now  # since when there is no stream; None = it is open
        self._ages: deque[float] = deque(maxlen=RECENT)
        self._misses = 0
        self._probed_s = -math.inf
        self._lights_s, self._reads_s = FIRST_SECONDS, FIRST_SECONDS

    # --- what happened ---

    def connection(self, is_open: bool, now: float) -> None:
        """How the stream stands; to be called whenever time has passed."""
        if is_open and self._broken_s is not None:
            self._broken_s = None
            self._ages.clear()
            self._misses = 0
            if self.reason == AWAY:  # one that was slow has to show that it is fast
                self._turn(Route.CLOUD)
        elif not is_open:
            self._broken_s = now if self._broken_s is None else self._broken_s
            if now - self._broken_s >= AWAY_S:
                self._turn(Route.EDGE, AWAY)

    def answered(self, age_s: float, missed: bool = False) -> None:
        """A result came for a frame of this age; `missed`: too late, the frame was taken over before."""
        self._ages.append(age_s)
        if self.deadline_s and (missed or age_s > self._time_s):
            if not missed:
                self.missed()
            return
        self._misses = 0
        if not self.deadline_s or age_s <= BACK * self._time_s:
            self._turn(Route.CLOUD)

    def missed(self) -> None:
        """A frame was taken over, for its result was not there in time."""
        self._misses += 1
        if self._misses >= MISSES:
            slow = "the cloud is too slow for the deadline" if self.deadline_s else "results do not come"
            self._turn(Route.EDGE, slow)

    def lit(self, seconds: float) -> None:
        """Lighting up a frame here took so long."""
        self._lights_s += SMOOTHING * (seconds - self._lights_s)

    def read(self, seconds: float) -> None:
        """Finding the text took so long."""
        self._reads_s += SMOOTHING * (seconds - self._reads_s)

    # --- what follows ---

    def choose(self, now: float, room: bool) -> Route:
        """Where the next frame goes; `room`: the stream would take one. It may be one that probes a slow cloud."""
        if self.route is Route.CLOUD or self.mode is not LocalMode.AUTO or self._broken_s is not None:
            return self.route
        if not room or now - self._probed_s < PROBE_S:
            return Route.EDGE
        self._probed_s = now
        return Route.CLOUD

    def is_overdue(self, age_s: float) -> bool:
        """Whether a frame of this age, sent or about to be, is to be taken over."""
        if self.mode is not LocalMode.AUTO:
            return False
        if self._broken_s is not None and self.route is Route.EDGE:
            return True
        usual_s = statistics.median(self._ages) if self._ages else None
        if not self.deadline_s:
            patience_s = FIRST_PATIENCE_S if usual_s is None else max(LEAST_PATIENCE_S, PATIENCE * usual_s)
            return age_s >= patience_s
        latest_s = max(self._time_s - self._lights_s, MARGIN * (usual_s or 0))
        return age_s >= min(latest_s, self._time_s)

    @property
    def _time_s(self) -> float:
        """From capture to the lit frame, so that it is read by its deadline."""
        return max(self.deadline_s - self._reads_s, self.deadline_s / 4)

    def _turn(self, route: Route, reason: str = "") -> None:
        if self.mode is LocalMode.AUTO and route is not self.route:
            self.route, self.reason = route, reason
