"""`python -m cloud_node enroll`: who may use the cloud nodes."""

import argparse
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cloud_node.identity.authority import DAYS, Authority
from common.channel import with_port
from common.errors import SettingsError
from common.files import write_private
from common.identity import Bundle

PROG = "python -m cloud_node enroll"
DESCRIPTION = """Let edges in, and throw them out. Takes effect on running nodes, without a restart.

Once:             %(prog)s --init --name gpu-box
Each cloud node:  python -m cloud_node --host 0.0.0.0 --identity authority/node
Each edge:        %(prog)s edge-17         writes edge-17.bundle, to be carried there and kept secret
                  python -m edge_node --identity edge-17.bundle --camera 0
"""


def run(argv: Sequence[str]) -> int:
    """The command. Raises SettingsError."""
    parser = _parser()
    given = parser.parse_args(argv)
    actions = ("init", "edge", "revoke", "list", "rotate", "rotate_authority", "forget_former")
    if sum(bool(getattr(given, name)) for name in actions) != 1:
        parser.error("say one thing to do: --init, EDGE, --revoke, --list, --rotate, --rotate-authority, ...")
    if given.authority and not given.init:
        parser.error("--authority goes with --init")
    folder: Path = given.folder
    if given.init:
        return _init(folder, given)
    with Authority(folder).changing() as authority:
        if given.edge:
            return _enroll(authority, given)
        if given.revoke:
            return _revoke(authority, given.revoke)
        if given.list:
            return _list(authority)
        if given.rotate:
            authority.rotate(given.name)
            print(f"{authority.node} has a new certificate, logins and token; copy it to other hosts again")
        elif given.rotate_authority:
            authority.rotate_authority()
            print(
                "a new authority signs from now on, and the former is trusted still. Copy the folder node/ to other "
                "hosts, give every edge a new bundle, then --rotate, and --forget-former when all have theirs"
            )
        else:
            authority.forget_former()
            print(
                "the newest authority and the newest logins of the nodes are trusted alone; copy node/ to other hosts"
            )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("edge", nargs="?", metavar="EDGE", help="edge to let in; for several cameras on it their names, with commas")
    add("--init", action="store_true", help="make the authority")
    add("--revoke", metavar="EDGE|SERIAL", help="throw an edge out, or a single bundle of it")
    add("--list", action="store_true", help="show what was issued")
    add("--rotate", action="store_true", help="new certificate and logins for the cloud nodes")
    add("--rotate-authority", action="store_true", help="a new authority beside the one that signed until now")
    add("--forget-former", action="store_true", help="trust the newest authority and logins alone")
    default = os.environ.get("LAMPLIGHT_AUTHORITY", "authority")
    add("--folder", type=Path, default=Path(default), metavar="DIR", help="of the authority (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="where the bundle goes (default: EDGE.bundle)")
    add("--days", type=float, default=DAYS, help="until a bundle expires (default: %(default)s)")
    add("--name", action="append", default=[], metavar="HOST", help="of a cloud node or NATS server, for edges; again")
    add("--cloud", default="", metavar="HOST[:PORT],..", help="cloud nodes for the bundles (default: the names)")
    add("--nats", default="", metavar="URL,..", help="NATS servers for the bundles (default: as the cloud node says)")
    add("--authority", nargs=2, type=Path, metavar=("CERT", "KEY"), help="an authority that exists is to sign")
    return parser


def _init(folder: Path, given: argparse.Namespace) -> int:
    cloud = given.cloud.split(",") if given.cloud else given.name or ["localhost"]
    nats = [url for url in given.nats.split(",") if url]
    if "@" in given.nats or any(not url.startswith("tls://") for url in nats):
        raise SettingsError("--nats: as tls://HOST:PORT; the login is in the bundle")
    existing = tuple(given.authority) if given.authority else None
    made = Authority.init(folder, given.name, [with_port(item.strip()) for item in cloud], nats, existing)
    print(
        f"{folder} is an authority now: keep it secret.\n"
        f"It is known as {', '.join(made.names)}; start cloud nodes with --identity {made.node}\n"
        f"and let edges in with `{PROG} EDGE`"
    )
    return 0


def _enroll(authority: Authority, given: argparse.Namespace) -> int:
    if not 0 < given.days <= 36_500:
        raise SettingsError(f"--days {given.days:g}: more than 0, and 36500 at most")
    edges = [edge.strip() for edge in given.edge.split(",")]
    out = given.out or Path(f"{edges[0]}.bundle")
    if given.out and not given.out.parent.is_dir():  # before anything is issued
        raise SettingsError(f"--out {given.out}: there is no folder {given.out.parent}")
    bundle: Bundle = authority.enroll(edges, given.days)  # checks the names, before one becomes a path
    write_private(out, bundle.to_json())
    print(
        f"{out}: edge {' and '.join(edges)}, until {_day(bundle.expires_s)}. It is as good as a password: carry it "
        f"there over a safe way, and start\npython -m edge_node --identity {out.name}"
    )
    return 0


def _revoke(authority: Authority, what: str) -> int:
    revoked = authority.revoke(what)
    for entry in revoked:
        print(f"revoked: {','.join(entry.edges) or 'serial'} {entry.serial}")
    if not revoked:
        print(f"{what}: all was revoked before")
    print(f"nodes that read {authority.node} know within seconds; copy it to other hosts")
    return 0


def _list(authority: Authority) -> int:
    now_s = time.time()
    for entry in authority.entries:
        days = f"{_day(entry.issued_s)} .. {_day(entry.expires_s)}"
        print(f"{entry.state(now_s):<8} {days} {entry.serial:<40} {','.join(entry.edges)}")
    return 0


def _day(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"
