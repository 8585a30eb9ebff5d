"""How fast and how large is a conversion? Generated files, a fresh process for each measurement.

    python benchmarks/convert.py ml-20m          # 20 million ratings of ML-20M's shape
    python benchmarks/convert.py steam           # 0.5, 2 and 4 million review literals, users growing with them
    python benchmarks/convert.py ml-100m         # 100 million ratings, out of core
    python benchmarks/convert.py ml-20m --against ../other-version

Each run also takes plain row-by-row Python over the first part of the same file, and prints the ratio of
rows a second. ``--scale 0.01`` makes everything smaller, ``--repeat 3`` measures each conversion three times.
``--against FOLDER`` measures another version of the project, in a folder of its own, in turn with this one.
Files go to ``--work`` and are removed.
"""

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
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
DAY = 86_400
SEED = 2020
TEXT = (
    "the a and game is it to of you I but for not this that fun great really good play played with hours "
    "story graphics recommend it's don't buy sale early access bugs still worth friends best ever 10/10 "
    'would again music controls \n\n wait refund love level boss \U0001f600 café "must" {sic} \\o/'
)


def generate_ratings(path: Path, n_rows: int, n_users: int, n_items: int) -> None:
    """Write a ratings.csv: users in order, popular items, bursts of rows with days between."""
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


def digit_columns(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """[N] numbers >= 0 -> [N, widest] digits, zero-padded on the left."""
    powers = 10 ** np.arange(len(str(values.max())) - 1, -1, -1, dtype=np.int64)
    digits = (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    digits[:, :-1][values[:, None] < powers[:-1]] = 0
    return digits


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


def measure(*argv: object, version: Path = ROOT) -> tuple[float, float, float]:
    """Run Python with these arguments; return seconds, seconds of CPU and peak memory in GB."""
    environment = {**os.environ, "PYTHONPATH": str(version)}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, argv)], env=environment, cwd=version)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"a measured process failed: {argv}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def generate(kind: str, path: Path, *sizes: int) -> None:
    """Generate in a process of its own: a child's peak memory counts that of the parent it came from."""
    measure(__file__, kind, "--generate", path, "--sizes", *sizes)
    print(f"generated {path.name}: {path.stat().st_size / 1e9:.2f} GB, {sizes[0]:,} rows, seed {SEED}")


def convert(kind: str, raw: Path, n_rows: int, work: Path, version: Path) -> tuple[float, float]:
    """Print seconds, rows a second and memory of one conversion; return rows a second, also by CPU seconds."""
    dataset = "steam" if kind == "steam" else "ml-20m"
    argv = ("convert", dataset, "--raw", raw, "--data_path", work / "out")
    load = os.getloadavg()[0]
    seconds, cpu, memory = measure("-m", "recbole_session", *argv, version=version)
    read = json.loads((work / "out" / dataset / "dataset.json").read_text(encoding="utf-8"))["counts"][0]
    print(
        f"{kind}, {version.name}: {n_rows:,} rows of {read['users']:,} users and {read['items']:,} items "
        f"in {seconds:.1f} s ({cpu:.1f} s of CPU), {n_rows / seconds:,.0f} rows/s, peak {memory:.3f} GB, "
        f"load average {load:.1f} before"
    )
    return n_rows / seconds, n_rows / cpu


def compare(kind: str, raw: Path, n_rows: int, work: Path, n_plain: int, repeat: int, against: list[Path]) -> None:
    """Measure conversions ``repeat`` times, versions in turn, and print the ratio of the fastest to plain Python."""
    speeds = []
    for _ in range(repeat):
        speeds.append(convert(kind, raw, n_rows, work, ROOT))
        for version in against:
            convert(kind, raw, n_rows, work, version)
    speed, speed_by_cpu = max(speeds)
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


def run(kind: str, scale: float, work: Path, repeat: int, against: list[Path]) -> None:
    if kind == "steam":
        for n_lines in (int(500_000 * scale), int(2_000_000 * scale), int(4_000_000 * scale)):
            raw = work / "steam_reviews.json"
            generate("steam", raw, n_lines)
            n_plain = int(200_000 * scale) if n_lines == int(2_000_000 * scale) else 0
            compare("steam", raw, n_lines, work, n_plain, repeat, against)
        return
    n_rows, n_users = {"ml-20m": (20_000_263, 138_493), "ml-100m": (100_000_000, 700_000)}[kind]
    raw = work / "ratings.csv"
    generate(kind, raw, int(n_rows * scale), int(n_users * scale), 26_744)
    compare(kind, raw, int(n_rows * scale), work, int(2_000_000 * scale), repeat, against)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # in order with what the measured processes print
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["ml-20m", "steam", "ml-100m"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=1, help="times to measure each conversion")
    parser.add_argument("--against", type=Path, action="append", default=[], help="folder of another version")
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
            run(arguments.kind, arguments.scale, work, arguments.repeat, [path.resolve() for path in arguments.against])
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
