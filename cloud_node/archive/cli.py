"""`python -m cloud_node archive SRC DST`."""

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloud_node.archive.files import Archive
from cloud_node.archive.job import Report, enhance_here
from cloud_node.archive.pipeline import Done, Limits
from cloud_node.engine import Engine, choose_devices
from common.errors import SettingsError, SourceError
from common.packing import IMAGE_SUFFIXES

EPILOG = """examples:
  python -m cloud_node archive night/ lit/                      this machine, first GPU or CPU
  python -m cloud_node archive night/ lit/ --gpus 0,1,2,3
  python -m cloud_node archive /nfs/night /nfs/lit --ray auto   every GPU of a Ray cluster

It may be stopped at any time, or killed: started again it goes on, and no image is enhanced a second time. Images that
cannot be read are listed in DST/.lamplight-archive/broken.jsonl; the rest is done, and the job ends with 1."""


def run(argv: Sequence[str]) -> int:
    """Returns the exit code: 0, or 1 when some images are broken.

    Raises:
        LamplightError: nothing can be read or written, or the device failed.
    """
    given = parse(argv)
    archive = Archive(given.source.absolute(), given.target.absolute(), given.format)  # Ray's workers are elsewhere
    start_s = time.monotonic()
    with archive.alone():
        report = Report(archive.private / "broken.jsonl")
        with _Shown(archive) as shown:
            for done in _enhanced(given, archive, limits_of(given)):
                report.add(done)
                shown.advance()
        if not report.broken:
            archive.clear()
    took_s = time.monotonic() - start_s
    rate = f"{report.enhanced / took_s:,.1f} images/s, {report.pixels / took_s / 1e6:,.1f} Mpixel/s"
    print(f"{report.enhanced:,} images enhanced into {archive.target}, {rate}; {report.there:,} were there")
    if report.broken:
        print(f"lamplight: {report.broken:,} images are broken: see {report.file}", file=sys.stderr)
        return 1
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, checked; `gpus` a list or None, `format` a suffix or "". Raises SettingsError."""
    given = _parser().parse_args(argv)
    given.format = f".{given.format.removeprefix('.').lower()}" if given.format else ""
    if given.format and given.format not in IMAGE_SUFFIXES:
        raise SettingsError(f"--format {given.format[1:]}: one of {', '.join(IMAGE_SUFFIXES)}")
    try:
        gpus = [int(number) for number in given.gpus.split(",")] if given.gpus else None
    except ValueError:
        raise SettingsError(f"--gpus {given.gpus}: numbers of CUDA devices, as 0 or 0,1") from None
    bounds = {"quality": (1, 100), "threads": (1, 256), "batch_pixels": (0, 2**40), "workers": (0, 100_000)}
    for name, (least, most) in bounds.items():
        if not least <= (value := getattr(given, name)) <= most:
            raise SettingsError(f"--{name.replace('_', '-')} {value}: {least}..{most}")
    if gpus and given.device:
        raise SettingsError("--gpus and --device exclude each other")
    if gpus and given.ray:
        raise SettingsError("--gpus is for this machine: with --ray say how many engines, by --workers")
    if given.workers and not given.ray:
        raise SettingsError("--workers goes with --ray")
    given.gpus = gpus
    return given


def limits_of(given: argparse.Namespace) -> Limits:
    """Of what `parse` gave."""
    return Limits(given.batch_pixels, threads=given.threads, quality=given.quality)


def _enhanced(given: argparse.Namespace, archive: Archive, limits: Limits) -> Iterator[Done]:
    if given.ray:
        from cloud_node.archive.cluster import enhance_on

        on_gpus = given.device != "cpu"
        yield from enhance_on(given.ray, archive, given.preset, limits, workers=given.workers, on_gpus=on_gpus)
        return
    devices, note = choose_devices(given.gpus, given.device)
    if note:
        print(f"lamplight: {note}", file=sys.stderr)
    yield from enhance_here(archive, [partial(Engine, device, given.preset) for device in devices], limits)


class _Shown:
    """A progress bar; how many images there are is counted meanwhile."""

    def __init__(self, archive: Archive) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("enhancing", total=None)
        self._archive, self._ended = archive, threading.Event()
        self._counting = threading.Thread(target=self._count)

    def __enter__(self) -> "_Shown":
        self._progress.start()
        self._counting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._counting.join()
        self._progress.stop()

    def advance(self) -> None:
        self._progress.advance(self._task)

    def _count(self) -> None:
        total = 0
        try:
            for _ in self._archive.images():
                if self._ended.is_set():
                    return
                total += 1
        except SourceError:  # the job meets it too, and says it
            return
        self._progress.update(self._task, total=total)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cloud_node archive",
        description="Enhance a whole archive of images: resumable, each image once, on one machine or a Ray cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of images, with its subfolders")
    parser.add_argument("target", type=Path, metavar="DST", help="folder for the enhanced ones, in the same tree")
    parser.add_argument("--gpus", default="", metavar="N[,N]", help="CUDA devices; without it the first, else the CPU")
    parser.add_argument("--device", default="", help="cpu, cuda:0 or mps, instead of --gpus")
    parser.add_argument("--preset", default="fast", help="network preset (default: fast)")
    parser.add_argument("--format", default="", metavar="EXT", help="of the enhanced files, as webp (default: as SRC)")
    parser.add_argument("--quality", type=int, default=95, help="of JPEG and WebP files (default: 95)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="for files, per device (default: 4)")
    parser.add_argument("--batch-pixels", type=int, default=0, metavar="N", help="of one batch together; 0 = by device")
    parser.add_argument("--ray", default="", metavar="ADDRESS", help="Ray cluster: auto, host:6379, or local")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="with --ray: engines (default: all GPUs)")
    return parser
