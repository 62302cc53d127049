"""`python -m cloud_node enhance IN OUT`: the same engine over an image or a folder."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloud_node.engine import Engine, choose_devices
from common.errors import ImageError, LamplightError, SourceError
from common.packing import IMAGE_SUFFIXES, rgb_of
from common.pixels import RawImage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """One image to enhance, and where the enhanced one goes."""

    source: Path
    target: Path


def plan(source: Path, target: Path) -> list[Work]:
    """What to do for an image or a folder (with its subfolders).

    Raises:
        SourceError: when there is nothing to enhance, or a picture would be written over its source.
    """
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if not found:
            raise SourceError(f"{source} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        if target.resolve() == source.resolve():
            raise SourceError(f"{target} is the source folder itself: name another, nothing is written over")
        inside = target.resolve()
        return [Work(path, target / path.relative_to(source)) for path in found if inside not in path.resolve().parents]
    if not source.is_file():
        raise SourceError(f"{source} does not exist")
    if target.is_dir() or not target.suffix:
        target = target / source.name
    if target.resolve() == source.resolve():
        raise SourceError(f"{target} is the source itself: name another, nothing is written over")
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        raise SourceError(f"{target}: write to one of {', '.join(IMAGE_SUFFIXES)}")
    return [Work(source, target)]


def read(path: Path) -> RawImage:
    """An image file as RGB, as `packing.rgb_of` sees it. Raises ImageError when it is none."""
    try:
        with Image.open(path) as picture:
            return RawImage.from_rgb(rgb_of(picture))
    except MemoryError:
        raise ImageError(f"{path} does not fit into memory") from None
    except Exception as error:  # a broken file brings out errors of many kinds in Pillow's parsers
        raise ImageError(f"{path} cannot be read as an image: {error}") from None


def run(argv: Sequence[str]) -> int:
    """Enhance; returns the exit code: 0, or 1 when some images failed (each is named)."""
    parser = argparse.ArgumentParser(
        prog="python -m cloud_node enhance",
        description="Enhance an image, or every image of a folder and its subfolders, on this machine.",
        epilog="example: python -m cloud_node enhance night-photos/ lit/",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="an image or a folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="an image, or a folder that keeps the tree of IN")
    parser.add_argument("--gpus", type=int, metavar="N", help="CUDA device; without it the first, else the CPU")
    parser.add_argument("--device", default="", help="cpu, cuda:0 or mps, instead of --gpus")
    parser.add_argument("--preset", default="fast", help="network preset (default: fast)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of that preset")
    parser.add_argument("--quality", type=int, default=95, help="of JPEG and WebP files (default: 95)")
    given = parser.parse_args(argv)

    work = plan(given.source, given.target)
    devices, note = choose_devices(None if given.gpus is None else [given.gpus], given.device)
    if note:
        print(f"lamplight: {note}", file=sys.stderr)
    engine = Engine(devices[0], given.preset, given.weights)
    failed: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for item in progress.track(work, description=f"enhancing with {engine.model}"):
            try:
                [output] = engine.enhance([read(item.source)])
                if not output.finite:
                    raise LamplightError(f"{item.source}: the network gave values that are not numbers")
                item.target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(output.rgb).save(item.target, quality=given.quality)
            except OSError as error:
                raise SourceError(f"cannot write {item.target}: {error.strerror or error}") from None
            except LamplightError as error:
                failed.append(str(error))
    for line in failed:
        print(f"lamplight: {line}", file=sys.stderr)
    done = len(work) - len(failed)
    print(f"{done} of {len(work)} images enhanced into {given.target}")
    return 1 if failed else 0
