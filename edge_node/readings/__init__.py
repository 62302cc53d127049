"""What was read, kept and searchable: docs/readings.md."""

from edge_node.readings.rows import Found
from edge_node.readings.store import Store, search_all, stores_in

__all__ = ["Found", "Store", "search_all", "stores_in"]
