"""How fast and how large is a conversion? Generated files, a fresh process for each measurement.

    python benchmarks/convert.py ml-20m          # 20 million ratings of ML-20M's shape
    python benchmarks/convert.py steam           # 0.5, 2 and 4 million review literals, users growing with them
    python benchmarks/convert.py duckdb          # 100 million ratings, out of core

Each run also takes plain row-by-row Python over the first part of the same file, and prints the ratio of
rows a second. ``--scale 0.01`` makes everything smaller, ``--repeat 3`` measures each conversion three times.
Files go to ``--work`` and are removed.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DAY = 86_400
SEED = 2020
TEXT = (
    "the a and game is it to of you I but for not this that fun great really good play played with hours "
    "story graphics recommend it's don't buy sale early access bugs still worth friends best ever 10/10 "
    'would again music controls \n\n wait refund love level boss \U0001f600 café "must" {sic} \\o/'
)


READ_ONLY = """
import pathlib, sys
from recbole_session.converters.rows import LineCheck
from recbole_session.converters.sources import Source
from recbole_session.converters.steam import read_steam
for rows in read_steam(Source(pathlib.Path(sys.argv[1])), LineCheck("reviews")):
    pass
"""


def generate_ratings(path: Path, n_rows: int, n_users: int, n_items: int) -> None:
    """Write a ratings.csv: users in order, popular items, bursts of rows with days between."""
    from recbole_session.converters.writing import digit_columns

    random = np.random.default_rng(SEED)
    activity = random.lognormal(0, 1.2, n_users)
    rows_of_user = 20 + np.floor(activity / activity.sum() * max(n_rows - 20 * n_users, 0)).astype(np.int64)
    rows_of_user[: n_rows - rows_of_user.sum()] += 1  # what the rounding left over
    popularity = np.cumsum(1 / np.arange(1, n_items + 1) ** 0.9)
    with path.open("wb") as stream:
        stream.write(b"userId,movieId,rating,timestamp\n")
        for users in np.array_split(np.arange(n_users), max(1, n_rows // 500_000)):
            user = np.repeat(users, rows_of_user[users])
            item = np.searchsorted(popularity, random.random(len(user)) * popularity[-1])
            half_stars = random.integers(1, 11, len(user))
            # A user's rows: mostly seconds apart, now and then a day or more.
            gaps = np.where(random.random(len(user)) < 0.03, random.integers(1, 60, len(user)) * DAY, 0)
            clock = np.cumsum(gaps + random.integers(0, 60, len(user)))
            first = np.concatenate(([0], np.cumsum(rows_of_user[users])[:-1]))
            times = 790_000_000 + clock - np.repeat(clock[first], rows_of_user[users])
            half = np.stack([half_stars // 2 + ord("0"), np.full(len(user), ord("."))], axis=1)
            fields = [
                digit_columns(user + 1), digit_columns(item + 1),
                np.concatenate([half, (half_stars % 2 * 5 + ord("0"))[:, None]], axis=1).astype(np.uint8),
                digit_columns(times),
            ]  # fmt: skip
            ends = (np.full((len(user), 1), end, dtype=np.uint8) for end in b",,,\n")
            parts = [part for pair in zip(fields, ends, strict=True) for part in pair]
            wide = np.concatenate(parts, axis=1).ravel()
            stream.write(wide[wide != 0].tobytes())


def generate_reviews(path: Path, n_lines: int) -> None:
    """Write Steam-like literals as Python 2 would; texts are drawn from 20,000 different ones."""
    random = np.random.default_rng(SEED)
    lengths = np.minimum(random.lognormal(3.6, 1.0, 20_000).astype(int) + 1, 2000)  # words; median 37
    words = TEXT.split(" ")
    texts = [" ".join(words[k] for k in random.integers(0, len(words), n)) for n in lengths]
    literals = ["u" + ascii(text) for text in texts]
    start = datetime.date(2011, 1, 1).toordinal()
    days = [datetime.date.fromordinal(start + day).isoformat() for day in range(2500)]
    with path.open("w", encoding="ascii") as stream:
        for begin in range(0, n_lines, 50_000):
            size = min(50_000, n_lines - begin)
            # Two reviews in a row by one user on one day, so that some users have whole sessions.
            users = np.repeat(random.integers(0, n_lines // 3 + 1, size), 2)[:size]
            days_of = np.repeat(random.integers(0, 2500, size), 2)[:size]
            columns = [users, random.zipf(1.2, size) % 15_000, days_of,
                       random.integers(0, len(texts), size), random.integers(1, 900, size)]  # fmt: skip
            for user, item, day, text, products in zip(*(column.tolist() for column in columns), strict=True):
                stream.write(
                    f"{{u'username': u'player_{user}', u'hours': {products / 10}, u'products': {products}, "
                    f"u'product_id': u'{item}', u'page_order': {day % 10}, u'date': u'{days[day]}', "
                    f"u'text': {literals[text]}, u'early_access': False, u'page': {day}}}\n"
                )


def plain_ratings(lines: list[str], output: Path) -> int:
    """Convert as a straightforward script would: a list of tuples, dictionaries, one row at a time."""
    rows = []
    for line in lines:
        user, item, rating, when = line.rstrip("\n").split(",")
        if float(rating) >= 4:
            rows.append((user, item, float(rating), int(when)))
    _plain_steps(rows, output)
    return len(lines)


def plain_reviews(lines: list[str], output: Path) -> int:
    """Convert with one ast.literal_eval a line."""
    rows = []
    for line in lines:
        review = ast.literal_eval(line)
        day = datetime.datetime.fromisoformat(review["date"]).replace(tzinfo=datetime.UTC)
        rows.append((review["username"], review["product_id"], 1.0, int(day.timestamp())))
    _plain_steps(rows, output)
    return len(lines)


def _plain_steps(rows: list[tuple[str, str, float, int]], output: Path) -> None:
    item_rows = Counter(row[1] for row in rows)
    rows = [row for row in rows if item_rows[row[1]] >= 5]
    histories = defaultdict(list)
    for row in rows:
        histories[row[0]].append(row)
    token = 0
    with output.open("w", encoding="utf-8") as stream:
        for history in histories.values():
            if len(history) < 5:
                continue
            sessions: list[list[tuple[str, str, float, int]]] = []
            for row in sorted(history, key=lambda row: row[3])[-200:]:
                if not sessions or row[3] - sessions[-1][-1][3] > DAY:
                    sessions.append([])
                sessions[-1].append(row)
            if len(sessions) < 2 or min(map(len, sessions)) < 2:
                continue
            for session in sessions:
                token += 1
                for row in session:
                    stream.write(f"{row[0]}\t{row[1]}\t{row[2]}\t{row[3]}\t{token}\n")


def measure(*argv: object) -> tuple[float, float, float]:
    """Run Python with these arguments; return seconds, seconds of CPU and peak memory in GB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, argv)], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"a measured process failed: {argv}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def generate(kind: str, path: Path, *sizes: int) -> None:
    """Generate in a process of its own: a child's peak memory counts that of the parent it came from."""
    measure(__file__, kind, "--generate", path, "--sizes", *sizes)
    print(f"generated {path.name}: {path.stat().st_size / 1e9:.2f} GB, {sizes[0]:,} rows, seed {SEED}")


def convert(kind: str, raw: Path, n_rows: int, work: Path, engine: str) -> tuple[float, float]:
    """Print seconds, rows a second and memory of one conversion; return rows a second, also by CPU seconds."""
    dataset = "steam" if kind == "steam" else "ml-20m"
    argv = ("convert", dataset, "--raw", raw, "--data_path", work / "out", "--engine", engine)
    load = os.getloadavg()[0]
    seconds, cpu, memory = measure("-m", "recbole_session", *argv)
    read = json.loads((work / "out" / dataset / "dataset.json").read_text(encoding="utf-8"))["counts"][0]
    print(
        f"{kind}, {engine}: {n_rows:,} rows of {read['users']:,} users and {read['items']:,} items "
        f"in {seconds:.1f} s ({cpu:.1f} s of CPU), {n_rows / seconds:,.0f} rows/s, peak {memory:.3f} GB, "
        f"load average {load:.1f} before"
    )
    return n_rows / seconds, n_rows / cpu


def compare(kind: str, raw: Path, n_rows: int, work: Path, engine: str, n_plain: int, repeat: int) -> None:
    """Measure a conversion ``repeat`` times, and print the ratio of the fastest to plain Python."""
    speed, speed_by_cpu = max(convert(kind, raw, n_rows, work, engine) for _ in range(repeat))
    if n_plain:
        plain, plain_cpu, plain_memory = measure(__file__, kind, "--plain", raw, "--sizes", n_plain)
        print(
            f"plain Python: the first {n_plain:,} rows in {plain:.1f} s ({plain_cpu:.1f} s of CPU), "
            f"{n_plain / plain:,.0f} rows/s, peak {plain_memory:.2f} GB; "
            f"ratio {speed / (n_plain / plain):.1f}, of CPU {speed_by_cpu / (n_plain / plain_cpu):.1f}"
        )


def run_plain(kind: str, raw: Path, n_rows: int) -> None:
    with raw.open(encoding="utf-8") as stream:
        if kind != "steam":
            next(stream)
        lines = [line for _, line in zip(range(n_rows), stream, strict=False)]
    convert = plain_reviews if kind == "steam" else plain_ratings
    convert(lines, raw.with_suffix(".plain"))


def run(kind: str, scale: float, work: Path, repeat: int) -> None:
    if kind == "steam":
        for n_lines in (int(500_000 * scale), int(2_000_000 * scale), int(4_000_000 * scale)):
            run_steam(n_lines, work, repeat, int(200_000 * scale) if n_lines == int(2_000_000 * scale) else 0)
        return
    n_rows = int((100_000_000 if kind == "duckdb" else 20_000_263) * scale)
    n_users = int((700_000 if kind == "duckdb" else 138_493) * scale)
    raw = work / "ratings.csv"
    generate(kind, raw, n_rows, n_users, 26_744)
    compare(kind, raw, n_rows, work, "duckdb" if kind == "duckdb" else "pandas", int(2_000_000 * scale), repeat)


def run_steam(n_lines: int, work: Path, repeat: int, n_plain: int) -> None:
    """Measure reading and converting; with plain Python beside it DuckDB too."""
    raw = work / "steam_reviews.json"
    generate("steam", raw, n_lines)
    seconds, cpu, memory = measure("-c", READ_ONLY, raw)
    print(f"reading alone: {n_lines / seconds:,.0f} lines/s ({cpu:.1f} s of CPU), peak {memory:.3f} GB")
    compare("steam", raw, n_lines, work, "pandas", n_plain, repeat)
    if n_plain:
        compare("steam", raw, n_lines, work, "duckdb", 0, 1)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # in order with what the measured processes print
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["ml-20m", "steam", "duckdb"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=1, help="times to measure each conversion")
    parser.add_argument("--work", type=Path, help="folder for generated files (default: the system's)")
    parser.add_argument("--generate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        make = generate_reviews if arguments.kind == "steam" else generate_ratings
        make(arguments.generate, *arguments.sizes)
    elif arguments.plain:
        run_plain(arguments.kind, arguments.plain, *arguments.sizes)
    else:
        work = Path(tempfile.mkdtemp(dir=arguments.work))
        try:
            run(arguments.kind, arguments.scale, work, arguments.repeat)
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
