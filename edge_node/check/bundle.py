"""Until when may this edge come in?"""

import time
from datetime import UTC, datetime
from typing import Final

from common.identity import identity_of
from edge_node.check.finding import Group
from edge_node.settings import EdgeSettings

SOON_DAYS: Final = 30.0


def check_bundle(given: EdgeSettings, found: Group) -> None:
    """Nothing is found where there is no bundle."""
    if (identity := identity_of(given.identity)) is None:
        return
    bundle = identity.bundle
    days = (bundle.expires_s - time.time()) / 86_400
    value = f"of {' and '.join(bundle.edges)}, until {datetime.fromtimestamp(bundle.expires_s, UTC):%Y-%m-%d}"
    advice = (
        f"`python -m cloud_node enroll {','.join(bundle.edges)}` makes another: put it in this one's place, "
        "a running edge takes it up"
    )
    if days <= 0:
        found.fail("bundle", f"{value}: it has expired, if this clock is right", advice, days_left=round(days, 1))
    elif days < SOON_DAYS:
        found.warn("bundle", f"{value}: {days:.0f} days left", advice, days_left=round(days, 1))
    else:
        found.ok("bundle", value, days_left=round(days, 1))
