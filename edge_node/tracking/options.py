"""Which tracker a camera needs."""

from typing import TYPE_CHECKING

from edge_node.sources import Source
from edge_node.sources.images import ImageFiles
from edge_node.sources.watched_folder import WatchedFolder

if TYPE_CHECKING:
    from edge_node.settings import Tracking
    from edge_node.tracking.tracker import TextTracker


def tracker_of(given: "Tracking", source: Source) -> "TextTracker | None":
    """For the frames of this source; None where text is not followed.

    Raises:
        SettingsError: OpenCV is not installed.
    """
    if not given.track:
        return None
    from common.errors import SettingsError

    try:
        from edge_node.tracking.tracker import TextTracker
    except ImportError as error:
        raise SettingsError(f"tracking needs OpenCV: pip install 'lamplight[edge]', or --no-track ({error})") from None
    ordered = not isinstance(source, ImageFiles | WatchedFolder)  # pictures of a folder may have nothing in common
    return TextTracker(timeout_s=given.sight_timeout_s, ordered=ordered, live=source.live)
