"""Logs for people, or as JSON lines for a collector: with the frame and its trace where a line is about one."""

import json
import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from common.frame import FrameId
from common.printable import printable

REMEMBERED: Final = 4_096  # frames whose traces are known
LOGIN = re.compile(r"//[^\s,]*@")  # in an address; up to the last @, whatever a password is made of
_WORDS = r"[\w-]*(?:token|password|secret)"
_NAMED = re.compile(rf"""(?i)({_WORDS}["']?\s*[=:]\s*["']?|--{_WORDS}\s+)[^\s"',&}}]+""")
_SHOWN = re.compile(r"(?i)\b(authorization:\s*\w+|bearer:?)\s+\S+")
_traces: "OrderedDict[str, str] | None" = None  # by frame; None = nobody asks


def remember(frame: FrameId, trace: Mapping[str, str]) -> None:
    """The trace of a frame, for lines about it."""
    if _traces is None or not (traceparent := trace.get("traceparent", "")):
        return
    _traces[str(frame)] = traceparent[3:35]
    if len(_traces) > REMEMBERED:
        _traces.popitem(last=False)


def is_json() -> bool:
    """Whether lines are JSON."""
    return _traces is not None


def without_secrets(text: str) -> str:
    """Logins in addresses, and what follows words such as token, starred out.

    >>> without_secrets("rtsp://me:pw@10.0.0.7/a: no answer; token=abc")
    'rtsp://***@10.0.0.7/a: no answer; token=***'
    """
    return _NAMED.sub(r"\1***", _SHOWN.sub(r"\1 ***", LOGIN.sub("//***@", text)))


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message; frame, trace_id and error where there are any."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        arguments = record.args if isinstance(record.args, tuple) else ()
        frame = next((str(item) for item in arguments if isinstance(item, FrameId)), None)
        if frame is not None:
            line["frame"] = frame
            if _traces is not None and frame in _traces:
                line["trace_id"] = _traces[frame]
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class _Plain(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        # What others sent may be in it: it begins no line of its own and moves no cursor.
        record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def configure(verbose: bool, json_service: str = "") -> None:
    """Warnings and our own news to stderr; every step with `verbose`; as JSON for a service that is named."""
    global _traces
    handler = logging.StreamHandler(sys.stderr)
    if json_service:
        _traces = OrderedDict()
        handler.setFormatter(JsonLines(json_service))
    else:
        plain = "%(asctime)s %(levelname)s %(name)s: %(message)s" if verbose else "lamplight: %(message)s"
        handler.setFormatter(_Plain(plain))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
