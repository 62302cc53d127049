"""The command line that every server script here has."""

import argparse


def parse(description: str | None, port: int = 0) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=port, help=f"to listen on (default: {port})")
    parser.add_argument("--nats", required=True, metavar="URL", help="where results are published")
    parser.add_argument("--preset", default="none", help="of the network (default: none, serving alone)")
    parser.add_argument("--workers", type=int, default=1, help="that run the network (default: 1)")
    parser.add_argument("--batch", type=int, default=1, help="frames of one batch (default: 1)")
    parser.add_argument("--wait-ms", type=float, default=0.0, help="for a batch to fill (default: 0)")
    parser.add_argument("extra", nargs="*", help="handed on to a cloud node, after --")
    return parser.parse_args()
