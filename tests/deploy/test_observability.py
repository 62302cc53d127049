"""Dashboards, alerts and scaling ask for metrics that the nodes emit, by labels that they have."""

import json
import re
import runpy
from collections.abc import Iterator
from functools import cache

import promql_parser
import pytest

from common.metrics import METRICS, Kind, Metric
from deploy.observability.ask import DASHBOARDS, OBSERVABILITY, Query, queries

FROM_PROMETHEUS = {"instance", "job"}


@cache
def series() -> dict[str, set[str]]:
    """Name -> labels of everything that Prometheus gets from either node."""
    known: dict[str, set[str]] = {}
    for metric in (metric for table in METRICS.values() for metric in table):
        for name, more in names_of(metric):
            known.setdefault(name, set()).update(FROM_PROMETHEUS, metric.labels, more)
    return known


def names_of(metric: Metric) -> Iterator[tuple[str, set[str]]]:
    if metric.kind is not Kind.HISTOGRAM:
        yield metric.prometheus, set()
        return
    yield metric.prometheus + "_bucket", {"le"}
    yield metric.prometheus + "_sum", set()
    yield metric.prometheus + "_count", set()


EACH = list(queries())


@pytest.mark.parametrize("query", EACH, ids=lambda query: query.where)
def test_a_query_asks_for_what_is_emitted(query: Query) -> None:
    plain = query.plain(edge="gate-1")
    promql_parser.parse(plain)
    names = re.findall(r"\blamplight_\w+", plain)
    assert names, "it asks for nothing of ours"
    labels = set.intersection(*(series().get(name, set()) for name in names))
    for name in names:
        assert name in series(), f"no node emits {name}"
    asked = {label for block in re.findall(r"\{([^}]*)\}", plain) for label in re.findall(r"(\w+)\s*[=!]~?", block)}
    asked |= {
        label for block in re.findall(r"\bby\s*\(([^)]*)\)", plain) for label in re.split(r"\s*,\s*", block.strip())
    }
    asked |= set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", query.text))
    assert asked <= labels | {"le"}, f"{query.where}: {asked - labels} is no label of it"


def test_the_dashboards_are_what_the_script_makes() -> None:
    made = runpy.run_path(str(OBSERVABILITY / "make_dashboards.py"))["dashboards"]()
    assert set(made) == {file.name for file in DASHBOARDS.glob("*.json")}
    for name, content in made.items():
        assert json.loads((DASHBOARDS / name).read_text()) == content, f"run make_dashboards.py: {name} is not fresh"


def test_panels_of_a_dashboard_do_not_overlap() -> None:
    for file in DASHBOARDS.glob("*.json"):
        panels = json.loads(file.read_text())["panels"]
        assert len({panel["title"] for panel in panels}) == len(panels)
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
        assert len(set(places)) == len(places)


def test_words_of_queries_are_words_of_the_nodes() -> None:
    """Values of labels, which no table holds."""
    text = "\n".join(query.promql for query in EACH)
    help_of = {metric.prometheus: metric.help for table in METRICS.values() for metric in table}
    for event in re.search(r'event=~"([^"]+)"', text).group(1).split("|"):
        assert event in help_of["lamplight_edge_spool_events_total"]
    assert 'outcome="enhanced"' in text and "enhanced" in help_of["lamplight_cloud_frames_settled_total"]
