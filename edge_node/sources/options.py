"""How live sources are looked after; a group of the settings."""

from dataclasses import dataclass

from common.settings import option


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How cameras and streams are looked after."""

    frozen_s: float = option(
        10.0, "a camera or stream without a new picture, or with the same one, for so long is opened again", metavar="S"
    )
    open_timeout_s: float = option(10.0, "give an attempt to open a camera or stream up after this long", metavar="S")
    wait_for_source: bool = option(
        False, "keep trying a camera or stream that is not there at the start; with several cameras always"
    )
    camera_format: str = option(
        "", "picture format to ask of a camera, as --list-cameras names them; without it the least compressed"
    )
