"""Fuzz a parser, guided by what its code reaches.

    python tests/fuzz/run.py --minutes 15 packing       # or frames, results, settings, spool, all

Needs atheris (`pip install -c constraints.txt '.[fuzz]'`). Begins with sound inputs and what earlier runs kept in
fuzz/NAME/ (--corpus). An input that raises, takes 10 s or 1 GiB ends the run, with its file in fuzz/: make it a
test. Ends with 1 then.
"""

import argparse
import hashlib
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "support"), str(ROOT), str(ROOT / "proto")]
NAMES = ("frames", "packing", "results", "settings", "spool")
HANG_S, MOST_MIB = 10, 1024


def fuzz(name: str, corpus: Path, seconds: float, more: list[str]) -> None:
    """In this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["common", "cloud_node", "edge_node", "tomllib"]):
        from targets import TARGETS
    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / f"seed-{hashlib.sha1(seed).hexdigest()[:12]}").write_bytes(seed)
    limits = [f"-max_total_time={int(seconds)}", f"-timeout={HANG_S}", f"-rss_limit_mb={MOST_MIB}", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus.parent}/", *more, str(corpus)], target.feed)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--minutes", type=float, default=15.0, help="for each (default: 15)")
    parser.add_argument("--corpus", type=Path, default=Path("fuzz"), help="folder (default: fuzz/)")
    given, more = parser.parse_known_args()
    if given.name != "all":
        fuzz(given.name, given.corpus / given.name, given.minutes * 60, more)
        return 0
    worst = 0
    for name in NAMES:
        start_s = time.monotonic()
        command = [sys.executable, __file__, name, "--minutes", str(given.minutes), "--corpus", str(given.corpus)]
        code = subprocess.run([*command, *more]).returncode
        print(f"{name}: {'sound' if code == 0 else f'ended with {code}'} after {time.monotonic() - start_s:.0f} s")
        worst = worst or code
    return int(bool(worst))


if __name__ == "__main__":
    sys.exit(main())
