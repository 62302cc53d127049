"""`python -m cloud_node alive ADDRESS`: whether the node on this machine is alive, for containers.

`python -m cloud_node.alive ADDRESS` is the same and imports nothing else, for checks each few seconds.
"""

import argparse
import http.client
import ssl
import sys
import urllib.request
from collections.abc import Sequence

from common.loopback import host_and_port

TIMEOUT_S = 1.0  # of each try; a container's check has longer than both


def run(argv: Sequence[str]) -> int:
    """0 when /livez answers as it should, else 1."""
    parser = argparse.ArgumentParser(prog="python -m cloud_node alive", description="Ends with 0 if the node is alive.")
    parser.add_argument("address", metavar="[HOST:]PORT", help="where its --http is")
    try:
        host, port = host_and_port(parser.parse_args(argv).address, "alive")
    except ValueError as error:
        parser.error(str(error))
    host = f"[{host}]" if ":" in host else host
    unchecked = ssl.create_default_context()  # it says one word, to this machine
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    https = urllib.request.HTTPSHandler(context=unchecked)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)  # a proxy knows another 127.0.0.1
    reasons = []
    for scheme in ("https", "http"):
        url = f"{scheme}://{host}:{port}/livez"
        try:
            with direct.open(url, timeout=TIMEOUT_S) as answer:
                return int(answer.status != 200)
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{scheme}: {error}")
    print(f"not alive: {'; '.join(reasons)}")
    return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
