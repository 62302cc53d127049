"""The error tree. Each error carries its numbers as fields and says in its message what to do.

LamplightError
├── SettingsError            a flag, variable or settings file is wrong
├── SourceError              a camera, stream, file or folder cannot be opened or read
├── ImageError               pixels or packed bytes do not hold together
│   ├── FrameTooLarge        more pixels or bytes than allowed
│   └── CorruptImage         the payload is broken, short, or of another size than it claims
├── DeviceError              the accelerator asked for is not there, or failed
│   ├── OutOfDeviceMemory    a batch does not fit into the device's memory
│   └── DeviceLost           the device stopped working: what was on it must be done elsewhere
├── WeightsError             network weights are missing, broken, or of another preset
├── TransportError           the other side cannot be reached, or refused
│   ├── CloudUnavailable     no cloud node answers
│   ├── StreamRefused        a cloud node refused the stream
│   ├── NotAllowed           this certificate may not do that
│   ├── Overloaded           a cloud node has too much to do: try again later
│   ├── Draining             a cloud node is stopping: use another
│   └── BrokerUnavailable    no NATS server answers, or it refused
├── Expired                  a frame's deadline passed before it reached a device
├── SpoolError               the edge's spool of kept frames cannot be used
│   ├── SpoolInUse           another edge node keeps its frames there
│   └── SpoolFull            no room, even without what is less urgent or older
├── ReadingsError            the database of kept readings cannot be used
└── PortInUse                the address to listen on is taken
"""

from typing import Final

import grpc

RESTART_EXIT: Final = 75  # EX_TEMPFAIL: whoever keeps this process running shall start it again


class LamplightError(Exception):
    """Base of every error that a user can do something about."""

    exit_code = 1
    status = grpc.StatusCode.INTERNAL


class SettingsError(LamplightError):
    """A flag, environment variable or settings file is wrong."""

    exit_code = 2
    status = grpc.StatusCode.INVALID_ARGUMENT


class SourceError(LamplightError):
    """A camera, stream, file or folder cannot be opened or read."""

    exit_code = 3


class ImageError(LamplightError):
    """Pixels or packed bytes do not hold together."""

    exit_code = 4
    status = grpc.StatusCode.INVALID_ARGUMENT


class FrameTooLarge(ImageError):
    """A frame has more pixels or bytes than the limit."""

    def __init__(self, size: int, limit: int, unit: str = "pixels") -> None:
        super().__init__(f"frame has {size:,} {unit}, the limit is {limit:,}: send a smaller one")
        self.size, self.limit, self.unit = size, limit, unit


class CorruptImage(ImageError):
    """A payload is broken, short, or of another size than it claims."""


class DeviceError(LamplightError):
    """The accelerator asked for is not there, or failed."""

    exit_code = 5


class OutOfDeviceMemory(DeviceError):
    """A batch does not fit into the device's memory."""

    def __init__(self, device: str, frames: int, pixels: int) -> None:
        super().__init__(f"{device} has no memory for {frames} frames of {pixels:,} pixels: lower --batch-pixels")
        self.device, self.frames, self.pixels = device, frames, pixels


class DeviceLost(DeviceError):
    """The device stopped working: what was on it must be done elsewhere."""


class WeightsError(LamplightError):
    """Network weights are missing, broken, or of another preset."""

    exit_code = 6


class TransportError(LamplightError):
    """The other side cannot be reached, or refused."""

    exit_code = 7
    status = grpc.StatusCode.UNAVAILABLE


class CloudUnavailable(TransportError):
    """No cloud node answers."""


class StreamRefused(TransportError):
    """A cloud node refused the stream."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class NotAllowed(TransportError):
    """This certificate may not do that."""

    status = grpc.StatusCode.PERMISSION_DENIED


class Overloaded(TransportError):
    """A cloud node has too much to do: try again later."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Draining(TransportError):
    """A cloud node is stopping: use another."""


class BrokerUnavailable(TransportError):
    """No NATS server answers, or it refused."""


class Expired(LamplightError):
    """A frame's deadline passed before it reached a device."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


class PortInUse(LamplightError):
    """The address to listen on is taken."""

    exit_code = 8

    @classmethod
    def by(cls, flag: str, host: str, port: int, error: OSError) -> "PortInUse":
        return cls(f"{flag} cannot listen on {host}:{port} ({error.strerror or error}): choose another port, or 0")


class SpoolError(LamplightError):
    """The edge's spool of kept frames cannot be used."""

    exit_code = 9


class SpoolInUse(SpoolError):
    """Another edge node keeps its frames there."""


class SpoolFull(SpoolError):
    """No room for a frame, even without what is less urgent or older."""


class ReadingsError(LamplightError):
    """The database of kept readings cannot be used."""

    exit_code = 2  # as grep's: 1 says that nothing was found
