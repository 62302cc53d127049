"""Regions to sights: the same text over frames, with a voted text and its best view; docs/tracking.md."""

from edge_node.tracking.tracker import TextTracker

__all__ = ["TextTracker"]
