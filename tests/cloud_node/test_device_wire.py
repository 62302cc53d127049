"""What goes between a node and the process of its device."""

import pytest

from cloud_node.device_wire import Fault, Inbox, Models, framed
from common.errors import CorruptImage, DeviceError, FrameTooLarge, ImageError, OutOfDeviceMemory, WeightsError


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_messages_come_whole_out_of_pieces(piece: int) -> None:
    sent = [Models({"fast": "fast-3"}), Models({"edge": "x" * 999})]
    stream, inbox = b"".join(map(framed, sent)), Inbox()
    got = [message for at in range(0, len(stream), piece) for message in inbox.add(stream[at : at + piece])]
    assert got == sent


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WeightsError("w"), WeightsError),
        (CorruptImage("c"), CorruptImage),
        (FrameTooLarge(9, 4), ImageError),
        (OutOfDeviceMemory("cpu", 2, 9), DeviceError),
        (KeyError("k"), RuntimeError),
    ],
)
def test_errors_keep_their_kind_and_words(error: Exception, kind: type[Exception]) -> None:
    came = Fault.of(error).error
    assert type(came) is kind and str(came) == str(error)
