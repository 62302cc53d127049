"""The networks on one device: raw frames in, enhanced frames out (docs/engine.md)."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from cloud_node import backends
from cloud_node.backends import Model
from cloud_node.backends.reasons import reason_of
from cloud_node.color import Form, from_bytes, sharpness, tensor_of, to_bytes
from cloud_node.device_wire import EngineSpec
from cloud_node.devices import device_names
from cloud_node.laegan import LAEGAN
from cloud_node.lanes import Lit, lanes_of
from cloud_node.outputs import Enhanced
from cloud_node.tiling import light_in_tiles
from common.errors import DeviceError, DeviceLost, OutOfDeviceMemory, WeightsError
from common.pixels import Bytes, ColorRange, PixelFormat, RawImage, content_size

IN_FLIGHT = 2  # batches on a device at once: one is computed while the other is copied
# Pixels of a tile by device. `fast` takes 280 bytes a pixel in float32, `reference` about 1,500 in bfloat16.
TILE_PIXELS, BYTES_PER_TILE_PIXEL = 4 * 1024 * 1024, 4_000
# What CUDA says when nothing on the device will work any more in this process.
LOST = ("CUDA error", "cudaError", "device-side assert")
NO_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "bad_alloc")


def choose_devices(gpus: Sequence[int] | None, device: str) -> tuple[list[torch.device], str]:
    """`devices.device_names`, for torch."""
    names, note = device_names(gpus, device)
    return [torch.device(name) for name in names], note


class Pending:
    """A batch on the device."""

    def __init__(self, collect: Callable[[], list[Enhanced]]) -> None:
        self._collect: Callable[[], list[Enhanced]] | None = collect
        self._outputs: list[Enhanced] = []
        self._error: Exception | None = None

    def result(self) -> list[Enhanced]:
        """Wait for the batch. To be called on the thread that submitted it; gives the same each time.

        Raises:
            DeviceError: as `Engine.enhance`.
        """
        collect, self._collect = self._collect, None
        if collect is not None:
            try:
                self._outputs = collect()
            except Exception as error:
                self._error = error
        if self._error is not None:
            raise self._error
        return self._outputs

    def settle(self) -> None:
        """Wait, and keep what comes of it for `result`."""
        try:
            self.result()
        except Exception:
            return


class Engine:
    """LAE-GAN on one device, one or several presets. One thread uses it; `reload` may be called from others."""

    def __init__(
        self,
        device: torch.device,
        presets: str | Mapping[str, Path | None] = "fast",
        weights: Path | None = None,
        *,
        threads: int = 0,
        backend: str = "auto",
        tile_pixels: int = 0,
    ) -> None:
        """Load presets.

        Args:
            presets: names with the files of their weights, None for those that come along; the first is the default.
                Or one name. 'none' does nothing, to measure the serving alone.
            weights: of the preset, where only its name is given.
            threads: of a CPU for the network; 0 = one for each processor that this thread may use.
            backend: 'auto' or one of `backends.BACKENDS`.
            tile_pixels: larger frames are lit in tiles; 0 = by device.

        Raises:
            WeightsError: if a preset is unknown or its weights do not load.
            SettingsError: for a backend that is unknown or not installed.
        """
        self.device = device
        self._threads = threads or processors()
        if device.type == "cpu":
            torch.set_num_threads(self._threads)
        self._backend = backends.choose(backend, device)
        self._tile_pixels = tile_pixels or _tile_pixels(device)
        self._lanes = lanes_of(device)
        self._in_flight: deque[Pending] = deque()
        self._reloading = threading.Lock()
        presets = {presets: weights} if isinstance(presets, str) else presets
        if not presets:
            raise WeightsError("no preset to serve: name at least one")
        self._models = {preset: self._load(preset, file) for preset, file in presets.items()}

    @property
    def model(self) -> str:
        """The version of the default preset, like 'fast-3'."""
        return next(iter(self._models.values())).version

    @property
    def models(self) -> Mapping[str, str]:
        """The version of each preset."""
        return MappingProxyType({preset: model.version for preset, model in self._models.items()})

    def enhance(self, images: Sequence[RawImage], preset: str = "") -> list[Enhanced]:
        """Enhance images of one size; an empty preset is the default.

        Raises:
            OutOfDeviceMemory: these are too many at once.
            DeviceLost: the device does not work any more.
            DeviceError: it failed otherwise.
            WeightsError: the preset is not served.
        """
        return self.submit(images, preset).result()

    def submit(self, images: Sequence[RawImage], preset: str = "") -> Pending:
        """Start to enhance images of one size. On a GPU what is submitted next is copied and queued meanwhile; at most
        `IN_FLIGHT` batches are on the device, so this waits for the one before the last.

        Raises: as `enhance`.
        """
        model = self._model(preset)
        if len({(image.width, image.height) for image in images}) > 1:
            raise ValueError("the images of a batch must be of one size")
        while len(self._in_flight) >= IN_FLIGHT:
            self._in_flight.popleft().settle()
        with self._told(images), torch.inference_mode():
            parts = [(indices, self._start(model, part, form)) for indices, part, form in _by_form(images)]

        def collect() -> list[Enhanced]:
            if pending in self._in_flight:
                self._in_flight.remove(pending)
            outputs: dict[int, Enhanced] = {}
            with self._told(images):
                for indices, take in parts:
                    outputs.update(zip(indices, _enhanced(take(), model.version), strict=True))
            return [outputs[index] for index in range(len(images))]

        pending = Pending(collect)
        self._in_flight.append(pending)
        return pending

    def warm_up(self, width: int = 600, height: int = 400) -> float:
        """Run each preset once on a dark image, so that no user's frame pays for the first run. Returns seconds."""
        start_s = time.perf_counter()
        for preset in self._models:
            self.enhance([_dark(width, height)], preset)
        return time.perf_counter() - start_s

    def prepare(self, images: Sequence[RawImage], preset: str = "") -> None:
        """Run a batch, and wait until the fastest way for it is built, which may take minutes: for measurements.

        Raises: as `enhance`.
        """
        with ExitStack() as stack:
            for ways in self._model(preset).ways:
                stack.enter_context(ways.at_once())
            self.enhance(images, preset)

    def reload(self, preset: str, weights: Path | None) -> str:
        """Put other weights in a preset's place, between two batches; returns their version. They are loaded beside the
        old ones and run once first.

        Raises:
            WeightsError: they do not fit, or what they give is not a number; the old ones stay.
        """
        with self._reloading:
            old = self._model(preset)
            preset = preset or next(iter(self._models))
            try:
                new = self._load(preset, weights)
                with torch.inference_mode():
                    _, measures = new.step(tensor_of(_dark(64, 48))[None].to(self.device), Form.of(_dark(64, 48)))
                if not torch.isfinite(measures).all():
                    raise WeightsError(f"{new.version} gives values that are not numbers")
            except torch.OutOfMemoryError:
                raise WeightsError(f"{self.device} has no memory for both; {old.version} stays") from None
            except WeightsError as error:
                raise WeightsError(f"{error}; {old.version} stays") from None
            self._models = {**self._models, preset: new}
            return new.version

    # --- the parts ---

    def _load(self, preset: str, weights: Path | None) -> Model:
        model = backends.load(preset, weights, self.device, self._backend, self._threads)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # other streams will read the weights
        return model

    def _model(self, preset: str) -> Model:
        models = self._models
        if preset and preset not in models:
            raise WeightsError(f"preset '{preset}' is not served here: {', '.join(models)}")
        return models[preset] if preset else next(iter(models.values()))

    def _start(self, model: Model, images: Sequence[RawImage], form: Form) -> Callable[[], Lit]:
        if form.width * form.height > self._tile_pixels and isinstance(model.network, LAEGAN):
            if min(form.width, form.height) >= backends.SMALLEST:
                lit = [self._in_tiles(model.network, image, form) for image in images]
                rgb, measures = (np.stack(part) for part in zip(*lit, strict=True))
                return lambda: (rgb, measures)
        return self._lanes.start(model.step, images, form)

    def _in_tiles(self, network: LAEGAN, image: RawImage, form: Form) -> tuple[Bytes, np.ndarray]:
        low = from_bytes(tensor_of(image)[None].to(self.device), form)
        rgb = np.empty((form.height, form.width, 3), np.uint8)
        total, sharp, pixels = 0.0, 0.0, form.width * form.height
        for rows, columns, tile in light_in_tiles(network, low, self._tile_pixels):
            tile = tile.float()
            rgb[rows, columns] = to_bytes(tile)[0].cpu().numpy()
            total += tile.sum().item()
            sharp += sharpness(tile).item() * tile[0, 0].numel() / pixels
        return rgb, np.array([total, sharpness(low).item(), sharp], np.float32)

    @contextmanager
    def _told(self, images: Sequence[RawImage]) -> Iterator[None]:
        """Device errors by their names."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            reason, told = reason_of(error), str(error)
            memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if memory or any(sign in told for sign in NO_MEMORY):
                raise OutOfDeviceMemory(str(self.device), len(images), images[0].width * images[0].height) from None
            if isinstance(error, torch.AcceleratorError) or any(sign in reason for sign in LOST):
                raise DeviceLost(f"{self.device} stopped working: {reason}") from None
            raise DeviceError(f"{self.device}: {reason}") from None


def engine_of(spec: EngineSpec) -> Engine:
    """Build an engine; on its thread. Raises as `Engine` does."""
    threads = spec.threads or max(1, processors() // spec.engines)
    return Engine(
        torch.device(spec.device), spec.presets, threads=threads, backend=spec.backend, tile_pixels=spec.tile_pixels
    )


def processors() -> int:
    """How many processors the calling thread may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _by_form(images: Sequence[RawImage]) -> list[tuple[list[int], list[RawImage], Form]]:
    """The images by what their bytes mean, with their places; in a batch of one camera it is one form."""
    forms: dict[Form, list[int]] = {}
    for index, image in enumerate(images):
        forms.setdefault(Form.of(image), []).append(index)
    return [(indices, [images[index] for index in indices], form) for form, indices in forms.items()]


def _enhanced(lit: Lit, version: str) -> list[Enhanced]:
    rgb, measures = lit
    return [
        Enhanced(one, before, after, bool(np.isfinite(total)), version)
        for one, (total, before, after) in zip(rgb, measures.tolist(), strict=True)
    ]


def _tile_pixels(device: torch.device) -> int:
    if device.type != "cuda":
        return TILE_PIXELS
    return max(TILE_PIXELS, torch.cuda.get_device_properties(device).total_memory // BYTES_PER_TILE_PIXEL)


def _dark(width: int, height: int) -> RawImage:
    dark = np.zeros(content_size(PixelFormat.I420, width, height), np.uint8)
    dark[: width * height] = 20
    dark[width * height :] = 128
    return RawImage(dark, width, height, PixelFormat.I420, ColorRange.LIMITED)
