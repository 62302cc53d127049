from lamplight.v1 import frame_pb2 as _frame_pb2
from lamplight.v1 import image_pb2 as _image_pb2
from lamplight.v1 import result_pb2 as _result_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RejectReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECT_REASON_UNSPECIFIED: _ClassVar[RejectReason]
    REJECT_REASON_TOO_LARGE: _ClassVar[RejectReason]
    REJECT_REASON_MALFORMED: _ClassVar[RejectReason]
    REJECT_REASON_DUPLICATE: _ClassVar[RejectReason]
    REJECT_REASON_OVERLOADED: _ClassVar[RejectReason]
    REJECT_REASON_WINDOW: _ClassVar[RejectReason]
    REJECT_REASON_DRAINING: _ClassVar[RejectReason]
    REJECT_REASON_DEVICE: _ClassVar[RejectReason]
    REJECT_REASON_LIMIT: _ClassVar[RejectReason]
REJECT_REASON_UNSPECIFIED: RejectReason
REJECT_REASON_TOO_LARGE: RejectReason
REJECT_REASON_MALFORMED: RejectReason
REJECT_REASON_DUPLICATE: RejectReason
REJECT_REASON_OVERLOADED: RejectReason
REJECT_REASON_WINDOW: RejectReason
REJECT_REASON_DRAINING: RejectReason
REJECT_REASON_DEVICE: RejectReason
REJECT_REASON_LIMIT: RejectReason

class EdgeMessage(_message.Message):
    __slots__ = ("open", "frame", "part", "close", "alive")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    frame: _frame_pb2.Frame
    part: _frame_pb2.FramePart
    close: Close
    alive: Alive
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., frame: _Optional[_Union[_frame_pb2.Frame, _Mapping]] = ..., part: _Optional[_Union[_frame_pb2.FramePart, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., alive: _Optional[_Union[Alive, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("edge", "session", "encoding", "preset", "unsettled")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    edge: str
    session: str
    encoding: _image_pb2.ResultEncoding
    preset: str
    unsettled: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, edge: _Optional[str] = ..., session: _Optional[str] = ..., encoding: _Optional[_Union[_image_pb2.ResultEncoding, _Mapping]] = ..., preset: _Optional[str] = ..., unsettled: _Optional[_Iterable[int]] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Alive(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloudMessage(_message.Message):
    __slots__ = ("opened", "accepted", "rejected", "credit", "go_away", "probe")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    accepted: Accepted
    rejected: Rejected
    credit: Credit
    go_away: GoAway
    probe: Probe
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("node", "model", "window_frames", "window_bytes", "max_pixels", "max_frame_bytes", "results", "holding")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FRAMES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    HOLDING_FIELD_NUMBER: _ClassVar[int]
    node: str
    model: str
    window_frames: int
    window_bytes: int
    max_pixels: int
    max_frame_bytes: int
    results: ResultsAddress
    holding: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[str] = ..., model: _Optional[str] = ..., window_frames: _Optional[int] = ..., window_bytes: _Optional[int] = ..., max_pixels: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., results: _Optional[_Union[ResultsAddress, _Mapping]] = ..., holding: _Optional[_Iterable[int]] = ...) -> None: ...

class ResultsAddress(_message.Message):
    __slots__ = ("servers", "consumers")
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    servers: _containers.RepeatedScalarFieldContainer[str]
    consumers: _containers.RepeatedCompositeFieldContainer[ResultsConsumer]
    def __init__(self, servers: _Optional[_Iterable[str]] = ..., consumers: _Optional[_Iterable[_Union[ResultsConsumer, _Mapping]]] = ...) -> None: ...

class ResultsConsumer(_message.Message):
    __slots__ = ("priority", "stream", "consumer")
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    priority: _frame_pb2.Priority
    stream: str
    consumer: str
    def __init__(self, priority: _Optional[_Union[_frame_pb2.Priority, str]] = ..., stream: _Optional[str] = ..., consumer: _Optional[str] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("sequence", "attempt")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    attempt: int
    def __init__(self, sequence: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("sequence", "attempt", "reason", "detail", "retry_after_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    attempt: int
    reason: RejectReason
    detail: str
    retry_after_ms: int
    def __init__(self, sequence: _Optional[int] = ..., attempt: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ..., detail: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("frames", "bytes")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    frames: int
    bytes: int
    def __init__(self, frames: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "grace_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    grace_ms: int
    def __init__(self, reason: _Optional[str] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("packed", "encoded", "priority", "deadline_ms", "encoding", "preset", "trace")
    PACKED_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    packed: _image_pb2.PackedImage
    encoded: _image_pb2.EncodedImage
    priority: _frame_pb2.Priority
    deadline_ms: int
    encoding: _image_pb2.ResultEncoding
    preset: str
    trace: _frame_pb2.TraceContext
    def __init__(self, packed: _Optional[_Union[_image_pb2.PackedImage, _Mapping]] = ..., encoded: _Optional[_Union[_image_pb2.EncodedImage, _Mapping]] = ..., priority: _Optional[_Union[_frame_pb2.Priority, str]] = ..., deadline_ms: _Optional[int] = ..., encoding: _Optional[_Union[_image_pb2.ResultEncoding, _Mapping]] = ..., preset: _Optional[str] = ..., trace: _Optional[_Union[_frame_pb2.TraceContext, _Mapping]] = ...) -> None: ...
