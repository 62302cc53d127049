"""Can readings and alerts go where they are to go?"""

import asyncio
from collections.abc import Sequence

from common.errors import SettingsError
from common.identity import login_of
from edge_node.alerts import options as alert_options
from edge_node.alerts.patterns import patterns
from edge_node.check.finding import Group
from edge_node.settings import EdgeSettings
from edge_node.sinks import options as sink_options
from edge_node.sinks.outlet import Carrier, NotDelivered

LIMIT_S = 15.0
ADVICE = "check the address, the login and the network; until it works up to 1,000 messages wait"


async def check_sinks(each: Sequence[EdgeSettings], found: Group) -> None:
    """Reaches each destination once, and delivers nothing there."""
    ways: dict[str, Carrier] = {}
    for given in each:
        try:
            patterns(given.alerts.alert, given.alerts.alert_file)
            login = login_of(given.identity, given.name)
            of_alerts = alert_options.carriers(given.alerts, given.sinks, given.name, login).values()
            of_readings = sink_options.carriers(given.sinks, given.name, login)
        except SettingsError as error:
            return found.fail("settings", str(error))
        ways |= {f"readings to {way.where}": way for way in of_readings}
        ways |= {f"alerts to {way.where}": way for way in of_alerts}
    await asyncio.gather(*(_reach(name, way, found) for name, way in ways.items()))


async def _reach(name: str, way: Carrier, found: Group) -> None:
    async def look() -> None:
        try:
            found.ok(name, await way.probe())
        except NotDelivered as error:
            found.fail(name, str(error), ADVICE)

    await found.within(LIMIT_S, name, look(), ADVICE)
