"""Alerts as settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.settings import check_least, option
from edge_node.sinks.options import SinkOptions, check_addresses, mqtt_topics

if TYPE_CHECKING:
    from common.nats_connection import Login
    from edge_node.alerts.alerts import Alerts
    from edge_node.sinks import Sink
    from edge_node.sinks.outlet import Carrier


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """What is told at once (docs/alerts.md)."""

    alert: tuple[str, ...] = option(
        (), "raise an alert when this word is read, or this /regular expression/; again for more", metavar="WORD",
        apart="\n",
    )  # fmt: skip
    alert_file: Path | None = option(None, "more of them, one a line", metavar="FILE")
    alert_webhook: str = option(
        "", "POST alerts to this address, as JSON, signed as readings are", metavar="URL", secret=True
    )
    alert_nats: str = option("", "publish alerts on NATS, as lamplight.alerts.<edge>", metavar="URL", secret=True)
    alert_mqtt: str = option("", "publish alerts by MQTT, as --mqtt", metavar="URL", secret=True)
    alert_command: str = option("", "run this for each alert; what was read is in its environment", metavar="COMMAND")
    alert_timeout_s: float = option(30.0, "a command that takes longer is ended", metavar="S")

    def __post_init__(self) -> None:
        check_least(("--alert-timeout-s", self.alert_timeout_s, 0.1))
        check_addresses("alert", self.alert_webhook, self.alert_nats, self.alert_mqtt)
        ways = (self.alert_webhook, self.alert_nats, self.alert_mqtt, self.alert_command)
        if any(ways) and not self.alert and self.alert_file is None:
            raise ValueError("alerts have somewhere to go but nothing to look for: add --alert WORD or --alert-file")


def carriers(
    given: AlertOptions, sinks: SinkOptions, edge: str, login: "Callable[[], Login] | None" = None
) -> "dict[str, Carrier]":
    """The ways of alerts, by the names that the journal has for them.

    Args:
        login: of an enrolled edge, to NATS.

    Raises:
        SettingsError: the secret or the command cannot be used.
    """
    from edge_node.alerts.command import Command
    from edge_node.sinks.nats_subject import ALERTS, NatsSubject
    from edge_node.sinks.webhook import Webhook, read_secret

    made: dict[str, Carrier] = {}
    if given.alert_webhook:
        made["webhook"] = Webhook(given.alert_webhook, read_secret(sinks.webhook_secret_file))
    if given.alert_nats:
        made["nats"] = NatsSubject(given.alert_nats, ALERTS, edge, login)
    if given.alert_mqtt:
        made["mqtt"] = mqtt_topics(given.alert_mqtt, edge, "alert", sinks.mqtt_discovery)
    if given.alert_command:
        made["command"] = Command(given.alert_command, given.alert_timeout_s)
    return made


def alerts(
    given: AlertOptions,
    sinks: SinkOptions,
    edge: str,
    folder: Path,
    shows: "Sequence[Sink]" = (),
    login: "Callable[[], Login] | None" = None,
) -> "Alerts | None":
    """The sink of these settings; None where there is nothing to look for.

    Args:
        folder: for alerts.jsonl.
        shows: sinks; those that show alerts are told of them.
        login: of an enrolled edge, to NATS.

    Raises:
        SettingsError: a pattern, the secret, the command or the folder cannot be used.
    """
    if not given.alert and given.alert_file is None:
        return None
    from edge_node.alerts.alerts import Alerts
    from edge_node.alerts.command import AT_ONCE
    from edge_node.alerts.journal import OLDEST_S, Journal
    from edge_node.alerts.patterns import patterns
    from edge_node.sinks.outlet import Outlet
    from edge_node.sinks.sink import AlertSink

    looked_for, ways = patterns(given.alert, given.alert_file), carriers(given, sinks, edge, login)
    journal = Journal(folder / "alerts.jsonl")
    outlets = {
        name: Outlet(
            "alerts", carrier,
            max_age_s=OLDEST_S, in_turn=True, workers=AT_ONCE if name == "command" else 1,
            on_delivered=lambda alert, name=name: journal.delivered(alert, name),  # type: ignore[misc]
        )
        for name, carrier in ways.items()
    }  # fmt: skip
    return Alerts(looked_for, journal, outlets, [sink for sink in shows if isinstance(sink, AlertSink)])
