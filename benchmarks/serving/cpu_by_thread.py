"""CPU time a frame of our node by where it goes: its event loop, its other threads, each device's process, and NATS.

python benchmarks/serving/cpu_by_thread.py --rate 20
"""

import argparse
from collections import Counter

import psutil
from bench import bench, main, parser, write
from systems import SYSTEMS, Server


def cpu_s(server: Server) -> Counter[str]:
    """Seconds so far."""
    spent: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        if "nats-server" in process.name():
            spent["NATS"] += sum(process.cpu_times()[:2])
        elif process in server.family:
            device = "cloud_node.device_child" in process.cmdline()
            for thread in process.threads():
                part = "event loop" if thread.id == process.pid else "other threads of the node"
                spent["devices" if device else part] += thread.user_time + thread.system_time
    return spent


def measure(given: argparse.Namespace) -> None:
    with bench(given) as made, made.serving(SYSTEMS["ours"]) as server:
        made.drive(server, {"rates": [given.rate]})  # what is built for a shape that comes again is built then
        before = cpu_s(server)
        [trial] = made.drive(server, {"rates": [given.rate]})["trials"]
        frames = given.rate * (made.seconds + made.warm_up_s)
        rows = {part: 1e3 * (spent - before[part]) / frames for part, spent in cpu_s(server).items()}
    write("cpu_by_thread", {"rate": given.rate, "served_fps": trial["served_fps"], "cpu_ms_a_frame": rows})
    for part, spent in sorted(rows.items(), key=lambda row: -row[1]):
        print(f"{spent:7.2f} ms a frame  {part}")
    served, p99_ms = trial["served_fps"], trial["all"]["p99_ms"]
    print(f"{served:.1f} of {given.rate:.1f} frames/s served, p99 {p99_ms:.0f} ms")


if __name__ == "__main__":
    made = parser(__doc__, preset="none", edges=16, seconds=6.0)
    made.add_argument("--rate", type=float, default=20.0, help="frames/s offered (default: 20)")
    main(measure, made.parse_args())
