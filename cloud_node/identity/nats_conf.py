"""Settings for NATS servers that run apart from a cloud node. Pure."""

import json
from collections.abc import Mapping
from pathlib import Path

from common.nats_server import LIMITS, MAX_PAYLOAD_BYTES

TLS_FILES = {"cert_file": "server.crt", "key_file": "server.key", "ca_file": "ca.crt"}
HANDSHAKE_S = 10.0  # with NATS, over a slow link too: its own limit is 2 s


def nats_conf(nats: Mapping[str, object]) -> str:
    """For a server that is started in the folder of this file; nats-server reads JSON as its own format."""
    body = {
        "host": "0.0.0.0",
        "port": 4222,
        "max_payload": MAX_PAYLOAD_BYTES,
        **LIMITS,
        "jetstream": {"store_dir": "nats-store"},
        **secured(nats, Path(), Path("nats-accounts")),
    }
    return json.dumps(body, indent=1) + "\n"


def secured(nats: Mapping[str, object], folder: Path, kept: Path) -> dict[str, object]:
    """TLS by the files in `folder`, and an operator's accounts, whose newest claims nats-server has in `kept`."""
    return {
        "tls": {**{name: str(folder / file) for name, file in TLS_FILES.items()}, "timeout": HANDSHAKE_S},
        "resolver": {"type": "full", "dir": str(kept), "allow_delete": False, "interval": "2m"},
        **_operator(nats),
    }


def operator_conf(nats: Mapping[str, object]) -> str:
    """Without braces, as an included file must be."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in _operator(nats).items())


def _operator(nats: Mapping[str, object]) -> dict[str, object]:
    return {
        "operator": nats["operator"],
        "system_account": nats["system_account"],
        "resolver_preload": nats["accounts"],
    }
