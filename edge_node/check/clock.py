"""Is this machine's clock right? Frames carry its time; deadlines and latencies do not depend on it."""

import ctypes
import json
import sys
import time
from datetime import datetime
from typing import Any

import nats.errors
from nats.aio.client import Client

from common.subjects import SUBJECT
from edge_node.check.finding import Group
from lamplight.v1 import enhancement_pb2 as pb

ASK_S = 1.0
MOST_OFF_S = 1.0
BUILT = 1_735_689_600  # 2025-01-01: a clock before that was never set
STA_UNSYNC, TIME_ERROR = 0x40, 5  # <sys/timex.h>
ADVICE = "set the clock: `timedatectl set-ntp true`, and allow NTP (UDP port 123) to go out"


class _Timex(ctypes.Structure):
    """The head of struct timex, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # microseconds
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_clock() -> tuple[bool, float] | None:
    """Whether the kernel's clock is held by NTP, and its largest error in seconds; None where it does not tell."""
    if sys.platform != "linux":
        return None
    timex = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    return state != TIME_ERROR and not timex.status & STA_UNSYNC, timex.maxerror / 1e6


def check_ntp(found: Group) -> None:
    """What this machine knows by itself."""
    if time.time() < BUILT:
        found.fail("set", f"it is {datetime.now():%Y-%m-%d} here: the clock was never set", ADVICE)
    kernel = kernel_clock()
    if kernel is None:
        return found.skip("NTP", "the kernel does not tell")
    held, error_s = kernel
    if held:
        found.ok("NTP", f"synchronised, within {error_s * 1e3:.0f} ms", synchronised=True, max_error_s=error_s)
    else:
        found.warn("NTP", "not synchronised", ADVICE, synchronised=False)


async def check_offset(found: Group, client: Client, edge: str, opened: pb.Opened) -> None:
    """This clock against the NATS server's, which stamps what JetStream answers."""
    told = await _server_time(client, edge, opened)
    if told is None:
        return found.skip("offset", "this NATS server does not tell its time (before 2.10), or not this login")
    before, stamp, after = told
    offset_s, doubt_s = (before + after) / 2 - stamp, (after - before) / 2
    text = f"{offset_s * 1e3:+.0f} ms against NATS, give or take {doubt_s * 1e3:.0f}"
    figures = {"offset_s": round(offset_s, 4), "doubt_s": round(doubt_s, 4)}
    if abs(offset_s) - doubt_s > MOST_OFF_S:
        found.warn("offset", text, f"this clock or the server's is wrong; {ADVICE}", **figures)
    else:
        found.ok("offset", text, **figures)


async def _server_time(client: Client, edge: str, opened: pb.Opened) -> tuple[float, float, float] | None:
    """Unix seconds before, at and after the server's stamp on its answer.

    NATS 2.10 stamps them all; 2.9 only a consumer that is made, so one is, for a moment.

    The node's own server lets edges make none; it is of this machine, so there is nothing to compare.
    """
    if not opened.results.consumers:
        return None
    stream = opened.results.consumers[0].stream
    before = time.time()
    info = await _ask(client, f"$JS.API.CONSUMER.INFO.{stream}.{opened.results.consumers[0].consumer}", {})
    if "ts" in info:
        return before, _unix(info["ts"]), time.time()
    subject = f"{SUBJECT}.{edge[:57]}-clock.essential"  # nobody's: no result is held back for it
    config = {"ack_policy": "explicit", "deliver_policy": "all", "filter_subject": subject, "inactive_threshold": 10**9}
    request = {"stream_name": stream, "config": config}
    before = time.time()
    made = await _ask(client, f"$JS.API.CONSUMER.CREATE.{stream}", request)
    after = time.time()
    if "created" not in made:
        return None
    await _ask(client, f"$JS.API.CONSUMER.DELETE.{stream}.{made['name']}", {})
    return before, _unix(made["created"]), after


async def _ask(client: Client, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = await client.request(subject, json.dumps(request).encode() if request else b"", timeout=ASK_S)
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError):  # not allowed, or no JetStream
        return {}
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


def _unix(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
