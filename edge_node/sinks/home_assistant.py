"""What Home Assistant wants to hear so that a camera shows up in it by itself (MQTT discovery).

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, checked against sensor.mqtt and event.mqtt.
"""

from typing import Any

from edge_node.sinks.sight_json import encode

LONGEST_STATE = 255  # of an entity in Home Assistant


def last_reading(prefix: str, edge: str, topic: str, status_topic: str) -> tuple[str, bytes]:
    """A sensor whose state is the text read last and whose attributes are the rest. Returns topic and payload."""
    sensor = {
        **_entity(edge, "reading", "Last reading", status_topic),
        "state_topic": topic,
        "value_template": f"{{{{ value_json.sight.text[:{LONGEST_STATE}] }}}}",
        "json_attributes_topic": topic,
        "json_attributes_template": "{{ value_json.sight | tojson }}",
        "icon": "mdi:text-recognition",
    }
    return f"{prefix}/sensor/lamplight_{edge}/reading/config", encode(sensor)


def alert_event(prefix: str, edge: str, topic: str, status_topic: str) -> tuple[str, bytes]:
    """An event entity that fires with each alert. Returns topic and payload."""
    fields = ("alert", "text", "confidence", "id")
    attributes = ", ".join(f"'{name}': value_json.{name}" for name in fields)
    event = {
        **_entity(edge, "alert", "Alert", status_topic),
        "state_topic": topic,
        "event_types": ["alert"],
        "value_template": "{{ {'event_type': 'alert', " + attributes + "} | tojson }}",
        "icon": "mdi:alert",
    }
    return f"{prefix}/event/lamplight_{edge}/alert/config", encode(event)


def _entity(edge: str, what: str, name: str, status_topic: str) -> dict[str, Any]:
    return {
        "name": name,
        "unique_id": f"lamplight_{edge}_{what}",
        "availability_topic": status_topic,
        "qos": 1,
        "device": {"identifiers": [f"lamplight_{edge}"], "name": f"Lamplight {edge}", "manufacturer": "Lamplight"},
        "origin": {"name": "Lamplight"},
    }
