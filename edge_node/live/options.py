"""Where the live page listens, and who may see it."""

from dataclasses import dataclass
from typing import Final

from common.loopback import host_and_port, is_loopback
from common.settings import option

LEAST_TOKEN: Final = 16  # characters; a shorter one could be guessed


@dataclass(frozen=True, slots=True)
class Page:
    """A page in the browser that shows this node at work (docs/live.md)."""

    live: str = option("", "serve the live page here; a port alone is on loopback", metavar="[HOST:]PORT")
    live_token: str = option(
        "",
        f"who opens the page must know this, {LEAST_TOKEN} characters or more; better in the environment, as "
        "LAMPLIGHT_LIVE_TOKEN",
        metavar="TOKEN",
        secret=True,
    )
    live_names: tuple[str, ...] = option(
        (), "more names that this machine has in a browser's address bar, as that of a proxy", metavar="NAME[,NAME]"
    )

    def __post_init__(self) -> None:
        if self.live_token and len(self.live_token) < LEAST_TOKEN:
            raise ValueError(f"--live-token: at least {LEAST_TOKEN} characters")
        if self.live and not (is_loopback(self.address[0]) or self.live_token):
            raise ValueError(
                f"--live {self.live}: others could watch; give a --live-token of {LEAST_TOKEN} characters or more "
                "(or LAMPLIGHT_LIVE_TOKEN), or leave the host out"
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises ValueError when there are none in `live`."""
        return host_and_port(self.live, "--live")
