"""ONNX models that run lean on a small device, and those that rapidocr's wheel carries."""

import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.errors import SettingsError, WeightsError
from common.onnx_overlay import Overlay
from common.onnx_rewrite import faster

log = logging.getLogger(__name__)

MODELS: Final = {"det": "PP-OCRv6_det_small.onnx", "rec": "PP-OCRv6_rec_small.onnx"}  # of those in the wheel

# Bytes that the arena reserves: it takes them one by one as they are used. Grown from small pieces, each too small for
# most layers, it took 31 MB more.
ARENA: Final = 192 * 2**20

# Numbers of fields in onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.data_type and raw_data.
GRAPH, INITIALIZER, DATA_TYPE, RAW_DATA = 7, 5, 2, 9
FLOAT: Final = 1  # TensorProto.DataType
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protobuf


def lean_session(model: Path, threads: int, overlay: Overlay | None = None) -> Any:
    """An ONNX Runtime session of a file that takes less memory than one with the runtime's own settings.

    overlay: weights that are other than the file's.

    Raises:
        SettingsError: ONNX Runtime is not installed.
        WeightsError: the file cannot be read, or is no model that runs. OtherBaseError: the overlay is another file's.
    """
    return lean_sessions(model, threads, lambda content: (content,), overlay)[0]


def lean_sessions(
    model: Path, threads: int, cut: Callable[[bytes], tuple[bytes, ...]], overlay: Overlay | None = None
) -> list[Any]:
    """Sessions of the parts of a file, as `cut` makes them, rewritten to be faster; else as `lean_session`."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise SettingsError(f"reading text needs ONNX Runtime: pip install 'lamplight[edge]' ({error})") from None
    options = lean_options(threads)

    def sessions(content: bytes) -> list[Any]:
        parts = cut(content)
        return [ort.InferenceSession(part, options, providers=["CPUExecutionProvider"]) for part in parts]

    try:
        content = model.read_bytes()
    except OSError as error:
        raise WeightsError(f"{model} cannot be read: {error}") from None
    content = bytes(without_denormals(overlay.over(content) if overlay else content))
    try:
        made = sessions(faster(content))
    except Exception as fault:  # ONNX Runtime's own classes differ by version
        try:
            made = sessions(content)
        except Exception as error:
            raise WeightsError(f"{model} cannot be read as a network, get it again: {error}") from None
        log.warning("%s does not run as it is rewritten: it runs as it is, which is slower (%s)", model.name, fault)
    for session in made:
        session._model_bytes = b""  # kept for a change of providers alone: detector and recogniser take 31 MB less
    return made


def lean_options(threads: int) -> Any:
    """Session options that take less memory, and no time of a core to wait.

    ONNX Runtime's threads would spin between layers: with two of them a frame took twice the CPU time on
    cores that had other work too, and no less time on the clock.

    The arena reuses what one layer frees for the next; a memory pattern would lay all layers out side by side. All
    such sessions of a process share one arena, for they seldom run at once: detector and recogniser take 20 MB less.
    Nodes run by priority, so that the detector's neck makes its large layers when they are needed: 25 MB less.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena, options.enable_mem_pattern = True, False
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


@functools.cache
def _share_arena() -> None:
    import onnxruntime as ort

    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(0, -1, ARENA, -1))  # no bound, else its own


def wheel_model(kind: str, what: str) -> Path:
    """The model of a kind ("det", "rec") in rapidocr's wheel, which is not imported for it.

    By its name: rapidocr downloads other models, of other languages and sizes, into the same folder when another
    program asks for them. A wheel that has another one gives the first of its kind, and the log says so.

    Raises:
        SettingsError: rapidocr is not installed. WeightsError: its wheel carries no such model.
    """
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise SettingsError(f"{what} needs rapidocr: pip install 'lamplight[edge]'")
    return model_in(Path(spec.origin).parent / "models", kind, what)


def model_in(folder: Path, kind: str, what: str) -> Path:
    """The model of a kind in a folder, as `wheel_model` chooses it."""
    path = folder / MODELS[kind]
    if path.is_file():
        return path
    others = sorted(folder.glob(f"*_{kind}_*.onnx"))
    if not others:
        raise WeightsError(f"no model for {what} in {folder}: pip install --force-reinstall rapidocr")
    log.warning("%s is missing in %s: %s is taken for %s", path.name, folder, others[0].name, what)
    return others[0]


def without_denormals(model: bytes) -> bytearray:
    """An ONNX file with those weights set to 0 that are too small for the processor's fast path (below 2^-126).

    Training leaves them behind, 256 thousand in rapidocr's detector, and Intel's processors multiply by each in
    microcode: without them it is 3.7 times as fast, and its output the same to the last bit. The length stays, so
    nothing else of the file changes; what is no protobuf comes back as it is.
    """
    made = bytearray(model)
    try:
        for tensor in _within(made, GRAPH, INITIALIZER):
            found = {number: value for number, value in _fields(made, *tensor) if number in (DATA_TYPE, RAW_DATA)}
            if found.get(DATA_TYPE) == (FLOAT, FLOAT) and RAW_DATA in found:
                start, end = found[RAW_DATA]
                bits = np.frombuffer(made, "<u4", (end - start) // 4, start)
                bits[(bits & 0x7F800000) == 0] = 0
    except (IndexError, ValueError):
        return bytearray(model)
    return made


def _within(data: bytearray, outer: int, inner: int) -> Iterator[tuple[int, int]]:
    for number, (start, end) in _fields(data, 0, len(data)):
        if number == outer:
            yield from (span for number, span in _fields(data, start, end) if number == inner)


def _fields(data: bytearray, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Field numbers of a protobuf message, each with the span of its bytes, or twice its value for a varint."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                return value

    while at < end:
        key = varint()
        if key & 7 == VARINT:
            value = varint()
            yield key >> 3, (value, value)
        else:
            length = varint() if key & 7 == BYTES else {FIXED64: 8, FIXED32: 4}.get(key & 7)
            if length is None or at + length > end:
                raise ValueError("no protobuf")
            yield key >> 3, (at, at + length)
            at += length
