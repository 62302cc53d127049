"""What a taught recogniser forgets: bright written lines that it reads otherwise than the plain network does.

    python benchmarks/forgetting.py --fonts /usr/share/fonts/truetype/liberation --fonts CHINESE [--recognizer FILE]

Lines in fonts of each folder, of which the plain network is sure (score above 0.8), read as a node reads them, and by
the taught weights alone.
"""

import argparse
from pathlib import Path

import numpy as np

from cloud_node.training.recognizer import pages
from common.text_crops import crops
from common.text_recognition import DARK, PLAIN, CTCRecognizer

SURE = 0.8
WORDS = ["TOTAL", "CASH", "Change", "AMOUNT"]


class AllTaught(CTCRecognizer):
    """Reads every line with the weights that were taught."""

    def reads_as_taught(self, crop: np.ndarray) -> bool:
        return True

    def probabilities(self, crop: np.ndarray, taught: bool = False) -> np.ndarray:
        return self._run(self._session, crop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, action="append", required=True, help="of TrueType files; repeatable")
    parser.add_argument("--recognizer", default=DARK, help="default: %(default)s")
    parser.add_argument("--pages", type=int, default=10, help="for each folder (default: %(default)s)")
    given = parser.parse_args()
    plain, *others = CTCRecognizer(PLAIN), CTCRecognizer(given.recognizer), AllTaught(given.recognizer)
    for one in (plain, *others):
        one.load()
    for folder in given.fonts:
        faces, same, lines = pages.faces([folder], plain.letters), np.zeros(2, int), 0
        if not faces:
            parser.error(f"--fonts {folder}: there is no TrueType file (.ttf, .ttc) under it that can be used")
        for number in range(given.pages):
            page = pages.written("page", np.random.default_rng((99, number)), faces, WORDS)
            for [crop, *more] in filter(None, (crops(page.rgb, outline) for outline in page.outlines)):
                spelled = plain.read(crop)
                if not more and spelled.score > SURE:
                    lines += 1
                    same += [one.read(crop).text == spelled.text for one in others]
        print(f"{folder}: of {lines} lines {same[0]} are read as before, {same[1]} by the taught weights alone")


if __name__ == "__main__":
    main()
