from lamplight.v1 import frame_pb2 as _frame_pb2
from lamplight.v1 import image_pb2 as _image_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_ENHANCED: _ClassVar[Outcome]
    OUTCOME_EXPIRED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_ENHANCED: Outcome
OUTCOME_EXPIRED: Outcome
OUTCOME_FAILED: Outcome

class StageTime(_message.Message):
    __slots__ = ("stage", "ns")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    NS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    ns: int
    def __init__(self, stage: _Optional[str] = ..., ns: _Optional[int] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("edge", "session", "sequence", "attempt", "captured_unix_ns", "priority", "outcome", "reason", "packed", "encoded", "model", "sharpness_before", "sharpness_after", "stages", "trace", "batch_size")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_AFTER_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    edge: str
    session: str
    sequence: int
    attempt: int
    captured_unix_ns: int
    priority: _frame_pb2.Priority
    outcome: Outcome
    reason: str
    packed: _image_pb2.PackedImage
    encoded: _image_pb2.EncodedImage
    model: str
    sharpness_before: float
    sharpness_after: float
    stages: _containers.RepeatedCompositeFieldContainer[StageTime]
    trace: _frame_pb2.TraceContext
    batch_size: int
    def __init__(self, edge: _Optional[str] = ..., session: _Optional[str] = ..., sequence: _Optional[int] = ..., attempt: _Optional[int] = ..., captured_unix_ns: _Optional[int] = ..., priority: _Optional[_Union[_frame_pb2.Priority, str]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., packed: _Optional[_Union[_image_pb2.PackedImage, _Mapping]] = ..., encoded: _Optional[_Union[_image_pb2.EncodedImage, _Mapping]] = ..., model: _Optional[str] = ..., sharpness_before: _Optional[float] = ..., sharpness_after: _Optional[float] = ..., stages: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., trace: _Optional[_Union[_frame_pb2.TraceContext, _Mapping]] = ..., batch_size: _Optional[int] = ...) -> None: ...
