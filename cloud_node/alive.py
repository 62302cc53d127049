"""`python -m cloud_node alive ADDRESS`: whether the node on this machine is alive, for containers."""

import argparse
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence

TIMEOUT_S = 3.0


def run(argv: Sequence[str]) -> int:
    """0 when /livez answers as it should, else 1."""
    parser = argparse.ArgumentParser(prog="python -m cloud_node alive", description="Ends with 0 if the node is alive.")
    parser.add_argument("address", metavar="[HOST:]PORT", help="where its --http is")
    host, _, port = parser.parse_args(argv).address.rpartition(":")
    unchecked = ssl.create_default_context()  # it says one word, to this machine
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    for scheme in ("https", "http"):
        url = f"{scheme}://{host or '127.0.0.1'}:{port}/livez"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=unchecked) as answer:
                return int(answer.status != 200)
        except (OSError, urllib.error.URLError) as error:
            reason = error
    print(f"not alive: {reason}")
    return 1
