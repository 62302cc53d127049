"""What a taught recogniser forgets: bright written lines that it reads otherwise than the plain network does.

    python benchmarks/forgetting.py --fonts /usr/share/fonts/truetype/liberation --fonts CHINESE [--recognizer FILE]
    python benchmarks/forgetting.py --fonts /usr/share/fonts/truetype/liberation --noise 4 --noise 8 --noise 16

Lines in fonts of each folder, of which the plain network is sure (score above 0.8), read as a node reads them, by the
taught weights alone, and by the plain network. With noise these are bright pictures of a camera at a high gain; what
the plain network reads without it counts as right.
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
    parser.add_argument("--noise", type=float, action="append", help="its standard deviation, in levels; repeatable")
    given = parser.parse_args()
    plain, *others = CTCRecognizer(PLAIN), CTCRecognizer(given.recognizer), AllTaught(given.recognizer)
    for one in (plain, *others):
        one.load()
    for folder in given.fonts:
        faces = pages.faces([folder], plain.letters)
        if not faces:
            parser.error(f"--fonts {folder}: there is no TrueType file (.ttf, .ttc) under it that can be used")
        for noise in given.noise or [0.0]:
            same, lines = np.zeros(3, int), 0
            for number in range(given.pages):
                rng = np.random.default_rng((99, number))
                page = pages.written("page", rng, faces, WORDS)
                noisy = (page.rgb + rng.normal(0, noise, page.rgb.shape) + 0.5).clip(0, 255).astype(np.uint8)
                for outline in page.outlines:
                    [crop, *more] = crops(page.rgb, outline) or [None]
                    if crop is None or more or (spelled := plain.read(crop)).score <= SURE:
                        continue
                    lines += 1
                    [seen] = crops(noisy, outline)
                    same += [one.read(seen).text == spelled.text for one in (*others, plain)]
            print(
                f"{folder}, noise of {noise:g} levels: of {lines} lines {same[0]} are read as before, {same[1]} by "
                f"the taught weights alone, {same[2]} by the plain network"
            )


if __name__ == "__main__":
    main()
