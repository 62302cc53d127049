"""What was read, kept and searchable: docs/readings.md."""

from edge_node.readings.rows import Found, to_json
from edge_node.readings.store import Store, search_all, stores_in

__all__ = ["Found", "Store", "search_all", "stores_in", "to_json"]
