"""How much of the engine's speed is left when it serves: frames/s served against frames/s of the engine alone.

    python benchmarks/serving/engine_share.py

The engine has one core to itself in both cases; in the second everything else (the rest of the node, NATS, the load)
has the other. Both cases take turns. Frames are the same, and so is the number in a batch, which the results tell.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
from bench import Bench, bench, main, parser, say, write
from systems import SYSTEMS, Server, with_settings

ENGINE_CPU, OTHER_CPU = 0, 1
OFFERED = 1.5  # of what the engine does alone, so that frames always wait for it


def alone(frames: Path, preset: str, batch: int, seconds: float, warm_up_s: float) -> float:
    """Frames/s of Engine.enhance in this process, on the core that it was given."""
    import frames as packed
    import torch

    from cloud_node.engine import Engine
    from common import memory, packing

    memory.tune_malloc()
    engine = Engine(torch.device("cpu"), preset, threads=1)
    images = [packing.unpack(image) for image in packed.load(frames)]
    batches = [[images[(start + i) % len(images)] for i in range(batch)] for start in range(0, len(images), batch)]
    begin, done = time.perf_counter() + warm_up_s, 0
    while time.perf_counter() < begin:
        engine.enhance(batches[0])
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        engine.enhance(batches[done % len(batches)])
        done += 1
    return done * batch / (now - begin)


def measure_alone(made: Bench, batch: int) -> float:
    command = [sys.executable, __file__, "--alone", str(made.frames), "--preset", made.preset, "--batch", str(batch)]
    command += ["--seconds", str(made.seconds), "--warm-up-s", str(made.warm_up_s)]
    environment = SYSTEMS["ours"].environment
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0) as engine:
        os.sched_setaffinity(engine.pid, {ENGINE_CPU})
        output, _ = engine.communicate()
    if engine.returncode:
        raise RuntimeError("the engine alone failed")
    return float(json.loads(output)["fps"])


def measure_served(made: Bench, fps: float) -> dict:
    """What is served when more is offered."""
    system = with_settings("ours", workers=1, extra=("--device-cpus", str(ENGINE_CPU)))
    with made.serving(system) as server:
        _keep_others_away(server)
        done = made.drive(server, {"rates": [fps]}, cpus=[OTHER_CPU])
    return done["trials"][0]


def _keep_others_away(server: Server) -> None:
    """The device's process pinned the device's thread; all others, and what they will start, get the other core."""
    threads = [thread.id for process in server.family for thread in process.threads()]
    pinned = [thread for thread in threads if os.sched_getaffinity(thread) == {ENGINE_CPU}]
    if not pinned:
        raise RuntimeError(f"no thread of the node is kept to core {ENGINE_CPU}: is --device-cpus heard?")
    _keep(set(threads) - set(pinned), OTHER_CPU)


def _keep(threads: Iterable[int], cpu: int) -> None:
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, {cpu})


def measure(given: argparse.Namespace) -> dict[str, object]:
    with bench(given) as made:
        for child in psutil.Process().children(recursive=True):  # NATS
            _keep([thread.id for thread in child.threads()], OTHER_CPU)
        batch, rows = 1, []
        for turn in range(given.runs):
            say(f"the engine alone, batches of {batch}, turn {turn + 1} of {given.runs}")
            free = measure_alone(made, batch)
            served = measure_served(made, OFFERED * free)
            if round(served["batch_size"]) != batch:  # the node took others: compare with those
                batch = round(served["batch_size"])
                say(f"the node takes batches of {batch}")
                free = measure_alone(made, batch)
            rows.append({"alone_fps": free, "served_fps": served["served_fps"], "batch": batch})
            say(f"alone {free:.2f}/s, served {served['served_fps']:.2f}/s")
    share = statistics.median(row["served_fps"] / row["alone_fps"] for row in rows)
    figures = {"preset": given.preset, "size": given.size, "share": share, "turns": rows}
    write("engine_share", figures)
    show(figures)
    return figures


def show(figures: dict) -> None:
    print(
        f"\npreset {figures['preset']}, {figures['size']}: served {figures['share']:.3f} of the engine alone (median)"
    )
    for row in figures["turns"]:
        print(f"  alone {row['alone_fps']:7.2f}/s  served {row['served_fps']:7.2f}/s  batches of {row['batch']}")


def options() -> argparse.ArgumentParser:
    made = parser(__doc__, preset="fast", edges=8, seconds=20.0)
    made.add_argument("--runs", type=int, default=3, help="turns (default: 3)")
    made.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    made.add_argument("--warm-up-s", type=float, default=2.0, help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    given = options().parse_args()
    if given.alone:
        print(json.dumps({"fps": alone(given.alone, given.preset, given.batch, given.seconds, given.warm_up_s)}))
    else:
        main(measure, given)
