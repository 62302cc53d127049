"""Asks a Prometheus every query of the dashboards, the alerts and Kubernetes' scaling.

python deploy/observability/ask.py http://localhost:9090 --edge demo

prints how many series each has, and ends with 1 if Prometheus refuses one.
"""

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[1]
OBSERVABILITY = DEPLOY / "observability"
DASHBOARDS = OBSERVABILITY / "grafana" / "dashboards"
SCALING = DEPLOY / "kubernetes" / "overlays" / "many-gpus" / "scaling.yaml"
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Query:
    """`where` it stands, its PromQL with Grafana's variables, and the text that uses labels of its result."""

    where: str
    promql: str
    text: str = ""

    def plain(self, edge: str, window: str = "1m") -> str:
        """PromQL as Grafana sends it."""
        return self.promql.replace("$__rate_interval", window).replace("$edge", edge)


@dataclass(frozen=True)
class Answer:
    """`series` that Prometheus has for a query; `error` is its own word when it refuses."""

    query: Query
    series: int
    error: str = ""


def queries() -> Iterator[Query]:
    """Everything that is asked of Prometheus."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield Query(f"{file.name}: {panel['title']}", target["expr"], target["legendFormat"])
    for group in yaml.safe_load((OBSERVABILITY / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield Query(f"rules.yml: {rule['alert']}", rule["expr"], rule["annotations"]["summary"])
    for trigger in yaml.safe_load(SCALING.read_text())["spec"]["triggers"]:
        yield Query("scaling.yaml", trigger["metadata"]["query"])


def ask(server: str, query: Query, edge: str, window: str = "1m") -> Answer:
    """What the Prometheus at `server` answers now. Raises OSError when it is not there, or not ready."""
    asked = urllib.parse.urlencode({"query": query.plain(edge, window)})
    try:
        with urllib.request.urlopen(f"{server}/api/v1/query?{asked}", timeout=TIMEOUT_S) as answer:
            result = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as refused:
        if refused.code not in (400, 422):  # of a query that is wrong; 503 while it starts
            raise
        return Answer(query, 0, json.load(refused).get("error", str(refused)))
    return Answer(query, sum("NaN" not in each["value"] for each in result))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("server", help="such as http://localhost:9090")
    parser.add_argument("--edge", default="demo", help="what the dashboards' variable is")
    arguments = parser.parse_args()
    answers = [ask(arguments.server, query, arguments.edge) for query in queries()]
    for answer in answers:
        print(f"{answer.error or answer.series:>4}  {answer.query.where}: {answer.query.promql}")
    return int(any(answer.error for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
