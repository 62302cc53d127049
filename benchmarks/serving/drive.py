"""The load, as its own process, run with the Python of the system that it loads. run.py and its like start it.

    PYTHON drive.py --system ours --address HOST:PORT --nats URL --frames FILE --plan '{"rates": [50, 100]}'

Plans: {"rates": [...]} runs each rate, shared evenly by all edges; {"find": {"start": 50, "precision": 1.04}} looks for
the highest sustained rate; {"loads": [{"edge": ..., "fps": ..., "priority": ...}, ...]} runs one given mix.
Writes {"trials": [...], "most_fps": ...} to standard output and progress to standard error.
"""

import argparse
import asyncio
import json
import math
import resource
import sys
from pathlib import Path

import frames
import trial
from edges import Edge
from trial import Load, Trial

from common import memory
from common.broker import Broker

GROW = 1.5  # steps of the first part of the search
LEAST_FPS = 0.5  # less is not looked for


class Driver:
    """Edges that stay connected from one run to the next."""

    def __init__(self, edges: dict[str, Edge], warm_up_s: float, seconds: float, label: str) -> None:
        self.edges, self.warm_up_s, self.seconds, self.label = edges, warm_up_s, seconds, label
        self.trials: list[Trial] = []

    async def run(self, loads: list[Load], hopeless_ends: bool = True) -> Trial:
        done = await trial.run(self.edges, loads, self.warm_up_s, self.seconds, hopeless_ends)
        self.trials.append(done)
        notes = ["" if done.sustained else "not sustained"]
        notes += [f"{word} {count}" for word, count in (("rejected", done.rejected), ("failed", done.failed)) if count]
        print(
            f"  {self.label:>9} {done.offered_fps:7.1f}/s offered {done.served_fps:7.1f}/s served"
            f"  p50 {done.all.p50_ms:8.1f}  p99 {done.all.p99_ms:8.1f} ms"
            f"  backlog {done.backlog_middle} -> {done.backlog_end}  {' '.join(notes)}",
            file=sys.stderr,
            flush=True,
        )
        return done

    async def rate(self, fps: float) -> Trial:
        return await self.run([Load(name, fps / len(self.edges)) for name in self.edges])

    async def find(self, start: float, precision: float, tries: int) -> float:
        """The highest rate that is sustained, within a factor of `precision`; a rate fails when all tries do."""
        low, high = 0.0, math.inf
        rate = start
        while high / max(low, 1e-9) > precision:
            for _ in range(tries):
                done = await self.rate(rate)
                if done.sustained:
                    break
            low, high = (rate, high) if done.sustained else (low, rate)
            if rate < LEAST_FPS:
                break
            if high is math.inf:
                rate = low * GROW
            elif low:
                rate = math.sqrt(low * high)
            else:  # what was served while it fell behind is near the answer
                rate = min(max(done.served_fps, high / 4), high / GROW)
        return low


async def drive(given: argparse.Namespace) -> dict[str, object]:
    plan = json.loads(given.plan)
    loads = [Load(**load) for load in plan.get("loads", ())]
    names = [load.edge for load in loads] or [f"edge-{number}" for number in range(given.edges)]
    images = frames.load(given.frames)
    broker = await Broker.connect(given.nats)
    await broker.ensure_streams()
    edges = {
        name: Edge(
            given.system, given.address, given.nats, name, images[at % len(images) :] + images[: at % len(images)]
        )
        for at, name in enumerate(names)
    }
    driver = Driver(edges, given.warm_up_s, given.seconds, given.system)
    answer: dict[str, object] = {}
    try:
        await asyncio.gather(*(edge.start(broker) for edge in edges.values()))
        if loads:
            await driver.run(loads, hopeless_ends=False)
        for rate in plan.get("rates", ()):
            await driver.rate(rate)
        if "find" in plan:
            answer["most_fps"] = await driver.find(**plan["find"])
    finally:
        await asyncio.gather(*(edge.close() for edge in edges.values()))
        await broker.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {**answer, "cpu_s": usage.ru_utime + usage.ru_stime, "trials": [done.as_json() for done in driver.trials]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--nats", required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--plan", required=True)
    parser.add_argument("--edges", type=int, default=16)
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    memory.tune_malloc()
    print(json.dumps(asyncio.run(drive(given))))


if __name__ == "__main__":
    main()
