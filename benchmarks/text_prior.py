"""Learns the packaged prior of receipts from what training receipts say: common/priors/receipts.tsv.gz.

    python benchmarks/text_prior.py --data DATA     # receipts_sroie under DATA

Of the 100 receipts the 70 that training may see; what the held-out ones say stays unread.
"""

import argparse
from pathlib import Path

from cloud_node.evaluation.detection import read_outlines
from cloud_node.training import pools
from common.text_prior import PACKAGED, grams_of, save


def lines(data: Path, but: frozenset[str] = frozenset()) -> list[str]:
    """What the training receipts say, but for those of these stems."""
    seen, _ = pools.files(data, "receipts_sroie")
    truths = [path.parent.parent / "gt" / f"{path.stem}.txt" for path in seen if path.stem not in but]
    return [outline.text for truth in truths for outline in read_outlines(truth) if outline.counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    parser.add_argument("--output", type=Path, default=PACKAGED["receipts"])
    given = parser.parse_args()
    learned = lines(given.data)
    save(grams_of(learned), given.output)
    print(f"{len(learned)} lines, {given.output.stat().st_size} bytes in {given.output}")


if __name__ == "__main__":
    main()
