"""ONNX models that run lean on a small device, and those that rapidocr's wheel carries."""

import functools
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

from common.errors import SettingsError, WeightsError
from common.onnx_file import DATA_TYPE, FLOAT, GRAPH, INITIALIZER, RAW_DATA, spans
from common.onnx_overlay import Overlay
from common.onnx_rewrite import faster

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
MODELS: Final = {"det": "PP-OCRv6_det_small.onnx", "rec": "PP-OCRv6_rec_small.onnx"}  # of those in the wheel

# Bytes that the arena reserves: it takes them one by one as they are used. Grown from small pieces, each too small for
# most layers, it took 31 MB more.
ARENA: Final = 192 * 2**20


def lean_session(model: Path, threads: int, overlay: Overlay | None = None, *, rewrite: bool = True) -> Any:
    """An ONNX Runtime session of a file that takes less memory than one with the runtime's own settings.

    Args:
        overlay: weights that are other than the file's.
        rewrite: run it faster; as it is where it does not load or run so.

    Raises:
        SettingsError: ONNX Runtime is not installed.
        WeightsError: the file cannot be read, or is no model that runs. OtherBaseError: the overlay is another file's.
    """
    [session] = lean_sessions(model, threads, lambda content: (content,), overlay, rewrite=rewrite)

    def load() -> Callable[..., Any]:
        plain = lean_session(model, threads, overlay, rewrite=False)

        def run(*arguments: Any, **named: Any) -> Any:
            made = plain.run(*arguments, **named)
            vars(session).update(vars(plain))  # the rewritten one goes
            return made

        return run

    if rewrite:
        session.run = or_as_it_is(model, session.run, load)
    return session


def or_as_it_is(model: Path, run: Callable[P, T], load: Callable[[], Callable[P, T]]) -> Callable[P, T]:
    """Runs a rewritten network; once that fails and what `load` gives, the network as it is, does not: that.

    If both fail it is not the rewriting: from then on what the first raises is raised, and nothing is loaded again.
    """
    spare: Callable[[], Callable[P, T]] | None = load

    def guarded(*arguments: P.args, **named: P.kwargs) -> T:
        nonlocal run, spare
        try:
            return run(*arguments, **named)
        except Exception as fault:  # ONNX Runtime's own classes differ by version
            if spare is None:
                raise
            try:
                plain = spare()
                made = plain(*arguments, **named)
            except WeightsError:  # the file is another by now, or gone
                raise fault from None
            finally:
                spare = None
            _say(model, fault)
            run = plain
            return made

    return guarded


def lean_sessions(
    model: Path,
    threads: int,
    cut: Callable[[bytes], tuple[bytes, ...]],
    overlay: Overlay | None = None,
    *,
    rewrite: bool = True,
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
        made = sessions(faster(content) if rewrite else content)
    except Exception as fault:  # ONNX Runtime's own classes differ by version
        try:
            made = sessions(content)
        except Exception as error:
            raise WeightsError(f"{model} cannot be read as a network, get it again: {error}") from None
        _say(model, fault)
    for session in made:
        session._model_bytes = b""  # kept for a change of providers alone: detector and recogniser take 31 MB less
    return made


def _say(model: Path, fault: Exception) -> None:
    reason = " ".join(str(fault).split())
    log.warning("%s does not run as it is rewritten: it runs as it is, which is slower (%s)", model.name, reason)


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
        for tensor in _within(made, _within(made, [slice(0, len(made))], GRAPH), INITIALIZER):
            found = {number: part for number, _, part in spans(made, tensor)}
            if RAW_DATA in found and made[found.get(DATA_TYPE, slice(0))] == bytes([FLOAT]):
                raw = found[RAW_DATA]
                bits = np.frombuffer(made, "<u4", (raw.stop - raw.start) // 4, raw.start)
                bits[(bits & 0x7F800000) == 0] = 0
    except (IndexError, ValueError):
        return bytearray(model)
    return made


def _within(data: bytearray, outer: Iterable[slice], wanted: int) -> Iterator[slice]:
    for one in outer:
        yield from (part for number, _, part in spans(data, one) if number == wanted)
