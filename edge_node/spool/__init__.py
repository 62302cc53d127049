"""Frames that must not be lost, on disk while they are on their way (docs/spool.md)."""

from edge_node.spool.entry import Entry
from edge_node.spool.record import CorruptRecord, Description
from edge_node.spool.store import Spool

__all__ = ["CorruptRecord", "Description", "Entry", "Spool"]
