"""What does choosing a batch cost while thousands of frames wait?

    python benchmarks/scheduler.py

Keeps 4,096 frames of 1,000 edges waiting (three priorities, three frame sizes, half of them with a deadline) and takes
batch after batch; what was taken is submitted anew, not timed with it. Then standard frames come to that queue while it
is far over its bound, so that no room can be made for them: beside the time of each refusal stands, from the same
process, that of a plain walk through the frames that might have gone for it. And frames come that are as large as three
thousand of those that wait, and find no room. Prints the CPU time of each call,
p50 / p99 / most, for several batch sizes, and writes benchmarks/results/scheduler.json.
"""

import argparse
import gc
import json
import random
import time
from collections import defaultdict
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cloud_node.admission import Admission
from cloud_node.jobs import Encoding, Job, ticket
from cloud_node.load import Load
from cloud_node.policy import Policy
from cloud_node.room import MOST_VICTIMS
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.settings import CloudSettings, Limits
from cloud_node.streams import Streams
from common.frame import Frame, FrameId, Priority
from common.packing import Filter, ImageFormat, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.telemetry import Timeline

RESULTS = Path(__file__).parent / "results" / "scheduler.json"
SIZES = ((600, 400), (1280, 720), (1616, 1080))
BATCHES = (1, 8, 32)
MS = 1_000_000
OVER = {"essential ones alone are too many": 50, "with standard ones they are too many": 5}  # times the bound
LARGE = {  # edges' share, in pixels, of what waits that the large frame's edge had already; times the bound
    "as large as thousands: what had less is too little": (0.5, 0.5),
    "as large as thousands: without them too many wait": (0.0, 20),
}
SMALL_BYTES = 4_096
Table = dict[str, dict[str, float]]


def measure(waiting: int, edges: int, batch_frames: int, rounds: int) -> Table:
    """CPU microseconds of each call: {"select": {"p50": ..., "p99": ..., "max": ...}, ...}."""
    chance = random.Random(1)
    scheduler: Scheduler[int] = Scheduler(batch_frames * 1616 * 1080, batch_frames, 2_000 * MS)
    spent_ns: dict[str, list[int]] = defaultdict(list)

    def timed(name, call, *arguments):
        start_ns = time.thread_time_ns()
        answer = call(*arguments)
        spent_ns[name].append(time.thread_time_ns() - start_ns)
        return answer

    def frame(now_ns: int) -> Ticket[int]:
        width, height = chance.choice(SIZES)
        return Ticket(
            edge=f"edge-{chance.randrange(edges)}",
            priority=chance.choices((1, 2, 3), (10, 60, 30))[0],
            bucket=(width, height),
            pixels=width * height,
            bytes=width * height // 4,
            arrived_ns=now_ns,
            job=0,
            expires_ns=now_ns + chance.randrange(5_000, 60_000) * MS if chance.random() < 0.5 else 0,
        )

    gc.disable()
    for number in range(rounds):
        now_ns = number * 20 * MS
        while len(scheduler) < waiting:
            timed("submit", scheduler.submit, frame(now_ns))
        timed("preview", scheduler.preview, now_ns)
        timed("less_urgent", next, scheduler.less_urgent(1), None)
        timed("rivals", lambda asks: next(scheduler.rivals(asks), None), frame(now_ns))
        timed("pixels_ahead", scheduler.pixels_ahead, 2)
        timed("select", scheduler.select, now_ns)
    gc.enable()
    return table_of(spent_ns)


def table_of(spent_ns: dict[str, list[int]]) -> Table:
    micros = {name: np.array(values) / 1e3 for name, values in spent_ns.items()}
    return {
        name: {"p50": float(np.median(of)), "p99": float(np.quantile(of, 0.99)), "max": float(of.max())}
        for name, of in micros.items()
    }


def job_of(chance: random.Random, number: int, edges: int, priority: Priority) -> tuple[Job, int, int]:
    width, height = chance.choice(SIZES)
    image = PackedImage(
        width, height, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, bytes(width * height // 16)
    )
    frame = Frame(FrameId(f"edge-{chance.randrange(edges)}", "s", number), image, 0, priority)
    return Job(frame, Encoding(ImageFormat.JPEG), Timeline({})), width, height


def queue_of(settings: CloudSettings, load: Load, edges: int) -> tuple[Scheduler[Job], Admission]:
    scheduler: Scheduler[Job] = Scheduler(8 * 1616 * 1080, 8, 2_000 * MS)
    admission = Admission(
        settings, Policy(), scheduler, load, Streams(settings.window, edges),
        ticket=ticket, devices=lambda: 1, wake=lambda: None,
    )  # fmt: skip
    return scheduler, admission


def refuse(waiting: int, edges: int, over: int, rounds: int) -> Table:
    """CPU microseconds of each refusal where all that waits takes `over` times as long as it may."""
    chance, settings, load = random.Random(1), CloudSettings(), Load()
    scheduler, admission = queue_of(settings, load, edges)
    for number in range(waiting):
        priority = chance.choices(list(Priority), (10, 60, 30))[0]
        scheduler.submit(ticket(*job_of(chance, number, edges, priority), 0))
    pixels = scheduler.pixels_ahead(max(Priority))
    load.on_batch(pixels, over * settings.limits.shed_after_ms * MS, waiting)
    spent_ns: dict[str, list[int]] = defaultdict(list)
    gc.disable()
    for number in range(rounds):
        job, width, height = job_of(chance, number, edges, Priority.STANDARD)
        start_ns = time.thread_time_ns()
        refusal = admission.admit(job, width, height, number)
        between_ns = time.thread_time_ns()
        asks = ticket(job, width, height, 0)
        victims = chain(scheduler.less_urgent(Priority.STANDARD), islice(scheduler.rivals(asks), MOST_VICTIMS))
        freed = sum(victim.pixels for victim in victims)
        end_ns = time.thread_time_ns()
        assert refusal is not None and load.wait_ms(pixels - freed, 1) > settings.limits.shed_after_ms
        spent_ns["refusal"].append(between_ns - start_ns)
        spent_ns["plain walk"].append(end_ns - between_ns)
    gc.enable()
    assert admission.sacrificed == 0
    return table_of(spent_ns)


def refuse_large(waiting: int, edges: int, had: float, over: float, rounds: int) -> Table:
    """CPU microseconds of each refusal of a frame as large, in bytes, as three quarters of all that fills the queue."""
    limits = Limits(max_queued=2 * waiting, max_queued_mib=waiting * SMALL_BYTES // 2**20)
    chance, settings, load = random.Random(1), CloudSettings(limits=limits), Load()
    scheduler, admission = queue_of(settings, load, edges)
    for number in range(waiting):
        job, width, height = job_of(chance, number, edges, Priority.STANDARD)
        job.frame = replace(job.frame, image=replace(job.frame.image, payload=bytes(SMALL_BYTES)))
        assert admission.admit(job, width, height, number) is None
    pixels = scheduler.pixels_ahead(max(Priority))
    load.on_batch(pixels, int(over * limits.shed_after_ms * MS), waiting)
    image = replace(job.frame.image, payload=bytes(waiting * SMALL_BYTES // 4 * 3))
    width, height = max(1, int(had * pixels / edges)), 1
    spent_ns: dict[str, list[int]] = defaultdict(list)
    gc.disable()
    for number in range(rounds):
        job.frame = replace(job.frame, id=FrameId("large", "s", number), image=image)
        start_ns = time.thread_time_ns()
        refusal = admission.admit(job, width, height, waiting + number)
        spent_ns["refusal"].append(time.thread_time_ns() - start_ns)
        assert refusal is not None
    gc.enable()
    assert admission.sacrificed == 0
    return table_of(spent_ns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=4_096, help="frames (default: 4096)")
    parser.add_argument("--edges", type=int, default=1_000, help="(default: 1000)")
    parser.add_argument("--rounds", type=int, default=2_000, help="batches of each size (default: 2000)")
    given = parser.parse_args()
    report: dict[str, object] = {"waiting": given.waiting, "edges": given.edges}
    print(f"{given.waiting} frames of {given.edges} edges wait; CPU microseconds a call, p50 / p99 / most")
    for frames in BATCHES:
        report[f"batches of {frames}"] = table = measure(given.waiting, given.edges, frames, given.rounds)
        show(f"{frames:>3} a batch", table)
    for what, over in OVER.items():
        table = refuse(given.waiting, given.edges, over, given.rounds)
        ratio = table["plain walk"]["p50"] / table["refusal"]["p50"]
        report[f"no room: {what}"] = {**table, "plain walk / refusal, p50": ratio}
        show(f"no room, {what}", table)
        print(f"    the plain walk takes {ratio:.1f} times as long (p50)")
    for what, (had, over) in LARGE.items():
        report[what] = table = refuse_large(given.waiting, given.edges, had, over, max(1, given.rounds // 10))
        show(what, table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def show(what: str, table: Table) -> None:
    for name, row in table.items():
        print(f"{what}  {name:>12}  {row['p50']:8.1f} /{row['p99']:8.1f} /{row['max']:8.1f}")


if __name__ == "__main__":
    main()
