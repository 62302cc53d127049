"""Write the tables of docs/metrics.md anew, from common/metric_table.py: python docs/write_metrics.py"""

import re
from pathlib import Path

from common.metric_table import CLOUD, EDGE, PROCESS, Metric

PAGE = Path(__file__).with_name("metrics.md")


def rows(table: tuple[Metric, ...]) -> str:
    """A table in Markdown."""
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for metric in table:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.prometheus}` | {metric.kind.value} | {labels} | {metric.help} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with its tables as the code has them."""
    tables = {
        "process": PROCESS,
        "cloud": tuple(metric for metric in CLOUD if metric not in PROCESS),
        "edge": tuple(metric for metric in EDGE if metric not in PROCESS),
    }
    for name, table in tables.items():
        block = f"<!-- {name} -->\n\n{rows(table)}\n\n<!-- end -->"
        page, found = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda match: block, page, flags=re.DOTALL)  # noqa: B023
        assert found == 1, f"docs/metrics.md has no place for the table '{name}'"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
