"""Which settings suit each peer best here: a short search of the highest rate for each. Its answer is in systems.py.

python benchmarks/serving/tune.py
"""

import argparse
import itertools

from bench import bench, main, parser, say, write
from systems import PEERS, with_settings

WORKERS, BATCHES, WAITS_MS = (1, 2), (1, 4, 8), (0.0, 5.0)


def measure(given: argparse.Namespace) -> None:
    rows = []
    with bench(given) as made:
        for name in given.systems or PEERS:
            for workers, batch, wait_ms in itertools.product(WORKERS, BATCHES, WAITS_MS):
                if batch == 1 and wait_ms:
                    continue  # nothing to wait for
                system = with_settings(name, workers=workers, batch=batch, wait_ms=wait_ms)
                try:
                    with made.serving(system) as server:
                        plan = {"find": {"start": 40.0, "precision": 1.3 if given.quick else 1.08, "tries": 1}}
                        most = made.drive(server, plan)["most_fps"]
                except RuntimeError as error:
                    say(str(error))
                    continue
                rows.append({"system": name, "workers": workers, "batch": batch, "wait_ms": wait_ms, "most_fps": most})
                write("tune", {"preset": given.preset, "size": given.size, "rows": rows})
    for row in sorted(rows, key=lambda row: (row["system"], -row["most_fps"])):
        print(
            "{system:>10}  {workers} workers  batches of {batch}  wait {wait_ms:g} ms  {most_fps:7.1f}/s".format(**row)
        )


if __name__ == "__main__":
    made = parser(__doc__, preset="none", edges=16, seconds=3.0)
    made.add_argument("--systems", nargs="*", choices=PEERS, help="(default: all)")
    main(measure, made.parse_args())
