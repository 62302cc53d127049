"""A load generator: many edges at once, an open loop of frames, and figures that leave no waiting out.

from edge_node.load import LoadSettings, run

report = asyncio.run(run(LoadSettings(source="photos/", edges=64, fps=10)))
print(report.all.latency_ms.p99, report.generator_late)
"""

from edge_node.load.report import LoadReport
from edge_node.load.run import run
from edge_node.load.settings import LoadSettings

__all__ = ["LoadReport", "LoadSettings", "run"]
