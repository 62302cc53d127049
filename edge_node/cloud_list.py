"""Which cloud node to try next, and after what wait."""

import random
from collections.abc import Sequence
from typing import Final

from common.backoff import Backoff

FIRST_DELAY_S: Final = 0.2
# An unreachable node is tried again soon, so that frames flow within 3 s once a link is back: a try costs a few
# packets. A node that answers and refuses has its reasons.
LONGEST_DELAY_S: Final = 0.7
LONGEST_REFUSED_DELAY_S: Final = 5.0
# A try that began while the link was away may sleep in TCP's own back-off: a new one is better. How long a connection
# takes is known once there was one; before that, and seldom later, a try is a longer one, for links that are worse.
CONNECT_TIMEOUT_S: Final = 1.8
CONNECT_ROUND_TRIPS: Final = 5
PATIENT_TIMEOUT_S: Final = 10.0
PATIENT_EVERY: Final = 4
PATIENT_EVERY_LATER: Final = 64


class CloudList:
    """Addresses, the one in use, and how often all of them failed.

    After a break the node that served is tried first, since it may still hold our frames, then the others in their
    order. There is no wait until every one was tried.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        if not addresses:
            raise ValueError("no cloud node is named")
        self.addresses = tuple(addresses)
        self._at = self._failed = 0
        self._backoff = Backoff(FIRST_DELAY_S, LONGEST_REFUSED_DELAY_S)  # its tries: rounds in which all failed
        self._reached = False  # some node answered in this round

    def __str__(self) -> str:
        return " or ".join(self.addresses)

    @property
    def current(self) -> str:
        return self.addresses[self._at]

    def connect_timeout_s(self, round_trip_s: float) -> float:
        """For a connection to the current one, over a link of this round trip; 0 = there was none yet."""
        every = PATIENT_EVERY_LATER if round_trip_s else PATIENT_EVERY
        if self._backoff.tries % every == every - 1:
            return PATIENT_TIMEOUT_S
        return max(CONNECT_TIMEOUT_S, CONNECT_ROUND_TRIPS * round_trip_s)

    def served(self) -> None:
        """The current one did its work for a while."""
        self._failed, self._reached = 0, False
        self._backoff.reset()

    def broke(self) -> float:
        """The stream to the current one broke after it had served: it is tried once more. Returns the wait before."""
        return random.uniform(0.0, FIRST_DELAY_S)

    def ended(self, refused: bool = False) -> float:
        """The current one failed us: turn to the next. Returns the seconds to wait before it is tried."""
        self._at = (self._at + 1) % len(self.addresses)
        self._failed += 1
        self._reached |= refused
        if self._failed % len(self.addresses):
            return 0.0
        longest_s, self._reached = LONGEST_REFUSED_DELAY_S if self._reached else LONGEST_DELAY_S, False
        return self._backoff.next_s(most_s=longest_s)
