"""What does looking for words cost, how many misread words are found, and how many others are taken for them?

    python benchmarks/alerts.py [--words 1000] [--texts 300]

Words are random letters with vowels between them, 4 to 12; texts are 1 to 8 of such words. Misread ones have one sign
in eight taken for what looks like it (0 for O, 1 for I, 5 for S, 8 for B, and back), and of each five letters at most
one missing, doubled or another. Times are CPU time of one thread. Writes benchmarks/results/alerts.json.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from edge_node.alerts.patterns import matching, pattern
from edge_node.alerts.words import Folded
from edge_node.sinks.outlet import Message, Outlet, close_all

RESULTS = Path(__file__).parent / "results" / "alerts.json"
LOOKS = {"O": "0", "I": "1", "S": "5", "B": "8", "0": "O", "1": "I", "5": "S", "8": "B"}


def made_up(random: random.Random) -> str:
    consonants, vowels = "BCDFGHKLMNPRSTVWZ", "AEIOU"
    length = random.randint(4, 12)
    return "".join(random.choice(vowels if place % 2 else consonants) for place in range(length))


def misread(random: random.Random, word: str) -> str:
    signs = [LOOKS.get(sign, sign) if random.random() < 1 / 8 else sign for sign in word]
    for _ in range(random.randint(0, min(len(word) // 5, 3))):
        place = random.randrange(len(signs))
        signs[place] = random.choice(("", signs[place] * 2, random.choice("CDFGHKMNPRTVWZ")))
    return "".join(signs)


def cpu_us(function: object, items: list[str]) -> float:
    took = []
    for item in items:
        start = time.thread_time_ns()
        function(item)  # type: ignore[operator]
        took.append((time.thread_time_ns() - start) / 1e3)
    return statistics.median(took)


class Nowhere:
    where = "nowhere"

    async def open(self) -> None: ...

    async def send(self, message: Message) -> None: ...

    async def close(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--texts", type=int, default=300)
    given = parser.parse_args()
    chance = random.Random(6)
    words = list(dict.fromkeys(made_up(chance) for _ in range(given.words)))
    known = set(words)
    texts = [" ".join(made_up(chance) for _ in range(chance.randint(1, 8))) for _ in range(given.texts)]
    patterns = [pattern(word) for word in words]
    found: dict[str, float] = {}
    for count in (10, 100, len(patterns)):
        found[f"us_for_{count}_words"] = cpu_us(lambda text, some=patterns[:count]: matching(some, text), texts)
    outlet = Outlet("readings", Nowhere())
    body = bytes(600)
    found["us_to_hand_over"] = cpu_us(lambda text: outlet.put(Message(text, body)), texts)
    close_all([outlet])
    sought = [(one, misread(chance, one.text)) for one in patterns]
    found["misread_words_found"] = sum(one.matches(text, Folded.of(text)) for one, text in sought) / len(sought)
    others = [text for text in texts if not known & set(text.split())]
    found["other_words_taken_for_one"] = sum(len(matching(patterns, text)) for text in others) / (
        sum(len(text.split()) for text in others) * len(patterns)
    )
    for name, value in found.items():
        print(f"{name:28} {value:.3g}")
    RESULTS.write_text(json.dumps({"words": len(words), "texts": len(texts), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
