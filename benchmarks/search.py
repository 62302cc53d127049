"""How long does a search over a million kept readings take, and what does keeping one cost?

    python benchmarks/search.py                 # some minutes; --readings 100000 for a quick look

Synthetic readings of 30 days, seeded: phrases of words as frequent as Zipf has it, plates, prices, times; one word of
twelve with a reading error. Searches of each kind, many different ones, in one process beside the same texts in a plain
SQLite table that LIKE looks through, the newest first, 50 at most. A quarter of the searches of a kind goes before,
uncounted. Wall clock, and CPU time, which is what counts where others use the machine too. Writes
benchmarks/results/search.json.
"""

import argparse
import itertools
import json
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.frame import FrameId, Priority, Route
from edge_node.readings import Store
from edge_node.readings.rows import Row, row_of
from edge_node.readings.writer import Writer
from edge_node.sights import Sight

RESULTS = Path(__file__).parent / "results" / "search.json"
DAYS, LIMIT, CAMERAS = 30, 50, 4
START_NS = 1_790_000_000 * 10**9
SIGNS = (
    "exit entrance parking no open closed push pull station street road main one way stop police fire door caution wet "
    "floor staff only please do not enter danger high voltage hotel restaurant cafe bar taxi bus platform gate ticket "
    "sale price new free water coffee tea menu total cash card thank you welcome lost and found left right up down the "
    "of to in for at on is keep clear emergency assembly point lift stairs toilet ladies gents pharmacy bakery market"
).split()
CONFUSIONS = {"o": "0", "i": "1", "l": "1", "s": "5", "b": "8", "e": "c", "0": "o", "1": "l", "5": "s", "8": "b"}


class Texts:
    """Texts as they are read."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        starts, ends = "b br c ch d f g gr h k l m n p pr r s st t tr v w".split(), ["", "n", "r", "s", "t", "l", "ck"]
        syllables = ["".join(part) for part in itertools.product(starts, "aeiou", ends)]
        made = {"".join(self.random.choices(syllables, k=self.random.randint(1, 4))) for _ in range(40_000)}
        self.words = [*SIGNS, *sorted(made - set(SIGNS))]
        self._ranks = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self.words))))
        self._spare: list[str] = []

    def word(self) -> str:
        if not self._spare:
            self._spare = self.random.choices(self.words, cum_weights=self._ranks, k=10_000)
        word = self._spare.pop()
        if self.random.random() < 1 / 12:
            at = self.random.randrange(len(word))
            other = CONFUSIONS.get(word[at]) or self.random.choice(("", "", self.random.choice("aeinrst")))
            word = word[:at] + other + word[at + 1 :] or word
        return word

    def plate(self) -> str:
        letters = "".join(self.random.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2))
        return f"{self.random.choice(('B', 'M', 'HH', 'K', 'F'))}-{letters} {self.random.randint(1, 9999)}"

    def text(self) -> str:
        kind = self.random.random()
        if kind < 0.6:
            phrase = " ".join(self.word() for _ in range(self.random.randint(1, 4)))
            return self.random.choice((phrase, phrase.upper(), phrase.capitalize()))
        if kind < 0.85:
            return self.plate()
        hour, minute, price = self.random.randint(0, 23), self.random.randint(0, 59), self.random.randint(1, 99999)
        return f"{hour}:{minute:02d}" if kind < 0.9 else f"{price / 100:.2f} EUR"


def sights(texts: Texts, count: int) -> Iterator[Row]:
    step, chance = DAYS * 86_400 * 10**9 // count, texts.random
    for number in range(count):
        first = START_NS + number * step + chance.randrange(step)
        lasts = int(chance.expovariate(1 / (3600e9 if chance.random() < 0.02 else 4e9)))
        name, left, top = f"camera {number % CAMERAS}", chance.randint(0, 400), chance.randint(0, 300)
        polygon = ((left, top), (left + 90.5, top), (left + 90.5, top + 30.2), (left, top + 30.2))
        yield row_of(
            Sight(
                f"5f0c9a17e2b4-{number}", "gate", name, texts.text(), chance.random(), chance.random(), first,
                first + lasts, 1 + lasts // 10**8, FrameId("gate", "5f0c9a17e2b4", number * 7), polygon, (600, 400),
                Priority.STANDARD, Route.CLOUD, True,
            ),
            "",
        ) | {"crop": f"sights/2026-09-21/5f0c9a17e2b4-{number}.jpg", "crop_bytes": 0}  # fmt: skip


def fill(folder: Path, count: int, seed: int) -> dict[str, float]:
    """Write them, most in large steps, the last as a node does."""
    writer, plain = Writer(folder / "readings.db"), sqlite3.connect(folder / "plain.db")
    plain.execute("CREATE TABLE readings (first_ns INTEGER PRIMARY KEY, text TEXT, last_ns INTEGER, name TEXT)")
    rows, last = sights(Texts(seed), count), min(20_000, count // 2)
    spent = taken = 0.0
    done = 0
    while batch := list(itertools.islice(rows, 5000 if done < count - last else 20)):
        begin, began = time.process_time(), time.perf_counter()
        writer.put(batch)
        if done >= count - last:
            spent, taken = spent + time.process_time() - begin, max(taken, time.perf_counter() - began)
        plain.executemany(
            "INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?)",
            [(row["first_ns"], row["text"], row["last_ns"], row["name"]) for row in batch],
        )
        done += len(batch)
        if done % 100_000 == 0:
            print(f"\r{done:,} of {count:,} written", end="", flush=True)
    plain.commit()
    plain.close()
    writer.close()
    print()
    return {
        "write_cpu_us": 1e6 * spent / last,
        "longest_write_of_20_ms": 1000 * taken,
        "bytes": (folder / "readings.db").stat().st_size / count,
        "plain_bytes": (folder / "plain.db").stat().st_size / count,
    }


def kinds(texts: Texts, kept: list[str], number: int) -> dict[str, tuple[list[str], dict[str, object]]]:
    """Searches of each kind: the texts, and how to search."""
    chance = texts.random
    seen = [chance.choice(kept) for _ in range(4 * number)]
    words = [chance.choice(text.split()) for text in seen]
    long = [word for word in words if len(word) >= 6 and word.isalpha()]
    plates = [text for text in kept if "-" in text]
    misread = [f"{word[:at]}{chance.choice('aeiost')}{word[at + 1 :]}" for word in long for at in [len(word) // 2]]
    three = ["".join(chance.choice(word)) for word in words if len(word) == 3]
    rare = [texts.words[-chance.randrange(1, 20_000)] for _ in range(number)]
    hour, day = 3600 * 10**9, 86_400 * 10**9
    old = START_NS + 3 * day
    return {
        "common word": (list(SIGNS), {}),
        "word as it occurs": (words, {}),
        "rare word": (rare, {}),
        "plate": ([chance.choice(plates) for _ in range(number)], {}),
        "two words": ([f"{a} {b}" for a, b in itertools.pairwise(SIGNS)], {}),
        "beginning, 3 letters": ([word[:3] for word in words], {}),
        "beginning, 2 letters": ([word[:2] for word in words], {}),
        "beginning, 1 letter": (list("abcdefghiklmnoprstuvw0123456789"), {}),
        "nothing there": ([f"{word}xq" for word in words], {}),
        "word, an hour 27 days ago": (words, {"since": old, "until": old + hour}),
        "word, a day 27 days ago": (words, {"since": old, "until": old + day}),
        "word, one camera": (words, {"camera": "camera 2"}),
        "latest": ([""], {}),
        "fuzzy: word as it occurs": (words, {"fuzzy": True}),
        "fuzzy: common word": (list(SIGNS), {"fuzzy": True}),
        "fuzzy: misread": (misread, {"fuzzy": True}),
        "fuzzy: rare word": (rare, {"fuzzy": True}),
        "fuzzy: 3 letters": (three, {"fuzzy": True}),
        "fuzzy: plate": ([chance.choice(plates) for _ in range(number)], {"fuzzy": True}),
        "fuzzy: nothing there": ([f"{word}xq" for word in words], {"fuzzy": True}),
        "fuzzy: word, an hour": (words, {"fuzzy": True, "since": old, "until": old + hour}),
    }


def like(database: sqlite3.Connection) -> Callable[..., list[object]]:
    def search(text: str, since: int = 0, until: int = 2**62, camera: str = "", fuzzy: bool = False) -> list[object]:
        del fuzzy  # it has no such thing: the same scan for the word as it is
        where = " AND ".join("text LIKE ?" for _ in text.split()) or "1"
        return database.execute(
            f"SELECT * FROM readings WHERE {where} AND first_ns BETWEEN ? AND ? AND name LIKE ? "
            "ORDER BY first_ns DESC LIMIT ?",
            (*(f"%{word}%" for word in text.split()), since, until, f"%{camera}%", LIMIT),
        ).fetchall()

    return search


def measure(search: Callable[..., object], texts: list[str], how: dict[str, object]) -> dict[str, float]:
    for text in texts[: len(texts) // 4]:
        search(text, **how)
    wall, cpu = [], []
    for text in texts:
        begin, began = time.thread_time(), time.perf_counter()
        search(text, **how)
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.thread_time() - begin))
    return {
        f"{what}_ms": sorted(times)[int(share * len(times))]
        for name, times in (("", wall), ("cpu_", cpu))
        for what, share in ((f"{name}p50", 0.5), (f"{name}p95", 0.95), (f"{name}max", 0.9999))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=1_000_000, metavar="N", help="(default: a million)")
    parser.add_argument("--searches", type=int, default=60, metavar="N", help="of each kind (default: 60)")
    parser.add_argument("--peer-searches", type=int, default=12, metavar="N", help="of each by LIKE (default: 12)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the databases here, and use them again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / f"written-{given.readings}-{given.seed}.json"
        if not written.exists():
            written.write_text(json.dumps(fill(folder, given.readings, given.seed)))
        table: dict[str, object] = {
            "readings": given.readings,
            "cpus": os.cpu_count(),
            **json.loads(written.read_text()),
        }
        plain = sqlite3.connect(folder / "plain.db")
        kept = [text for (text,) in plain.execute("SELECT text FROM readings WHERE first_ns % 97 = 0")]
        store, asked = Store(folder / "readings.db"), kinds(Texts(given.seed), kept, given.searches)
        print(f"{'ms':<28} {'p50':>8} {'p95':>8}   CPU: {'p50':>8} {'p95':>8} {'max':>8}   LIKE: {'p50':>8} {'p95':>8}")
        searches: dict[str, object] = {}
        for name, (texts, how) in asked.items():
            ours = measure(lambda text, **how: store.search(text, limit=LIMIT, **how), texts[: given.searches], how)
            theirs = measure(like(plain), texts[: given.peer_searches], how)
            searches[name] = {"searches": len(texts[: given.searches]), "lamplight": ours, "like": theirs}
            print(
                f"{name:<28} {ours['p50_ms']:>8.1f} {ours['p95_ms']:>8.1f}        {ours['cpu_p50_ms']:>8.1f} "
                f"{ours['cpu_p95_ms']:>8.1f} {ours['cpu_max_ms']:>8.1f}         {theirs['p50_ms']:>8.1f} "
                f"{theirs['p95_ms']:>8.1f}",
                flush=True,
            )
        table["searches"] = searches
        store.close()
    print(
        "a reading: {write_cpu_us:.0f} us of CPU, {bytes:.0f} bytes (as a plain table {plain_bytes:.0f}); "
        "20 at a time in {longest_write_of_20_ms:.0f} ms at most".format(**table)
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
