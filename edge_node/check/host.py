"""Memory and temperature of this machine."""

from pathlib import Path

from edge_node import machine
from edge_node.check.finding import Group
from edge_node.settings import EdgeSettings

NEEDED_MIB = 512.0  # a node with its detector at 1280x720, and some room


def check_host(
    given: EdgeSettings, found: Group, *, thermal: Path = machine.THERMAL, proc: Path = machine.PROC
) -> None:
    """What the node could still use, against what its user allows."""
    available, allowed = machine.available_mib(proc), given.care.max_rss_mib
    if available is None:
        found.skip("memory", f"not told in {proc}")
    elif available < (needed := float(allowed or NEEDED_MIB)):
        advice = "end other programs, or use --detector none or a smaller --detector-max-side"
        found.warn("memory", f"{available:,.0f} MiB to be had, {needed:g} may be used", advice, available_mib=available)
    else:
        found.ok("memory", f"{available:,.0f} MiB to be had", available_mib=available)
    hottest, limit = machine.celsius(thermal), given.care.max_celsius
    if hottest is None:
        if limit:
            found.warn("temperature", f"no temperature is told in {thermal}", "--max-celsius has no effect here")
        else:
            found.skip("temperature", f"not told in {thermal}")
        return
    degrees, kind = hottest
    if limit and degrees > limit:
        text = f"{degrees:.1f} °C ({kind}), above --max-celsius {limit:g}"
        found.warn("temperature", text, "the node takes fewer frames: give it shade or air", celsius=degrees)
    else:
        found.ok("temperature", f"{degrees:.1f} °C ({kind})", celsius=degrees)
