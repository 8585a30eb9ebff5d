"""One conversion from the raw file to the atomic files: reader, engine, writer and card put together."""

import json
import math
import platform
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from duckdb import DuckDBPyConnection

from recbole_session import __version__
from recbole_session.converters import engine
from recbole_session.converters.columns import Columns
from recbole_session.converters.datasets import ANY_FILE, DATASETS, Dataset
from recbole_session.converters.generic import GenericReader
from recbole_session.converters.lines import LineCheck
from recbole_session.converters.movielens import MovieLensReader, film_titles
from recbole_session.converters.preprocessing import RESULT, Thresholds, resolve_thresholds
from recbole_session.converters.sources import Source, download, find_sources
from recbole_session.converters.steam import SteamReader
from recbole_session.converters.writing import CARD, publish, scratch_folder
from recbole_session.errors import InputError
from recbole_session.files import file_checksum

ENGINES = {"duckdb": ("duckdb",), "spark": ("duckdb", "pyspark")}  # and the packages whose versions the card names
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Options:
    """The options of a conversion, without the thresholds."""

    dataset: str | None = None
    engine: str = "duckdb"
    strict: bool = False
    skip_bad: bool = False
    all_users: bool | None = None
    download: bool = False
    url: str | None = None
    columns: Columns | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"--engine is {self.engine!r}, but must be one of {', '.join(ENGINES)}.")
        if self.strict and self.skip_bad:
            raise InputError("--strict and --skip_bad contradict each other: give at most one.")
        if self.dataset is not None and not NAME.fullmatch(self.dataset):
            raise InputError(f"--dataset is {self.dataset!r}, but must be a name of letters, digits, '.', '_' and '-'.")

    @property
    def own_sessions(self) -> bool:
        """Whether a column of the log names the sessions."""
        return self.columns is not None and self.columns.session is not None


class Conversion(NamedTuple):
    """The written file and its card."""

    path: Path
    card: dict[str, Any]


class Job(NamedTuple):
    """A conversion with everything decided: what to read, how, and what to call the result."""

    converter: str
    dataset: Dataset
    sources: list[Source]  # none where only Spark can open ``name``
    name: str  # of the raw file or folder, for messages
    settings: Options
    thresholds: Thresholds
    target: str
    scratch: Path
    check: LineCheck


def run_conversion(name: str, raw: Path | str | None, output_dir: Path, **options: Any) -> Conversion:
    """Do what `recbole_session.converters.convert` describes, and return the card too."""
    with _prepared(name, raw, Path(output_dir), options) as job:
        card = _convert(job)
        return Conversion(publish(job.scratch, Path(output_dir) / job.target, job.target), card)


def dry_run(name: str, raw: Path | None, output_dir: Path, **options: Any) -> tuple[LineCheck, list[list[str]], int]:
    """Read everything and write nothing: the lines, the first rows as read, and the number of sessions of all."""
    with _prepared(name, raw, Path(output_dir), options) as job, engine.open_database(job.scratch) as connection:
        _load(connection, job)
        return job.check, *engine.preview(connection, job.thresholds, job.settings.own_sessions)


@contextmanager
def _prepared(name: str, raw: Path | str | None, output_dir: Path, options: dict[str, Any]) -> Iterator[Job]:
    """Check options and find the raw files; the scratch folder is there within the block."""
    thresholds_given = {key: options.pop(key) for key in list(options) if key in Thresholds.__annotations__}
    unknown = set(options) - {field.name for field in fields(Options)}
    if unknown:
        raise InputError(f"convert has no option {sorted(unknown)[0]!r}: see recbole-session convert --help.")
    if name != "generic" and name not in DATASETS:
        raise InputError(f"no dataset is called {name!r}: choose one of {', '.join(DATASETS)} or generic.")
    known = DATASETS.get(name, ANY_FILE)
    settings = Options(**{**options, "columns": options.get("columns") or known.columns})
    policy = "strict" if settings.strict else "skip" if settings.skip_bad else "tolerant"
    all_users = known.all_users if settings.all_users is None else settings.all_users
    thresholds = resolve_thresholds(known.thresholds, all_users, thresholds_given)
    if known is ANY_FILE and (settings.dataset is None or settings.columns is None):
        raise InputError("convert generic needs --dataset NAME and the names of its columns.")
    if "://" in str(raw):
        if settings.engine != "spark" or settings.columns is None:
            raise InputError(
                f"--raw {raw} is for --engine=spark and convert generic: fetch the file and name its path."
            )
        sources, label = [], str(raw)
    else:
        path = _raw_path(name, raw, output_dir, settings)
        sources = find_sources(path, known.files)
        label = sources[0].name if len(sources) == 1 else path.name
    with scratch_folder(output_dir) as scratch:
        target, check = (
            settings.dataset or name,
            LineCheck(label, policy, settings.columns.where if settings.columns else None),
        )
        yield Job(name, known, sources, label, settings, thresholds, target, scratch, check)


def _raw_path(name: str, raw: Path | str | None, output_dir: Path, settings: Options) -> Path:
    if raw is not None:
        if settings.download:
            raise InputError("--raw and --download contradict each other: give one.")
        return Path(raw)
    if settings.download:
        if name not in DATASETS:
            raise InputError("--download knows no generic dataset: give the file by --raw.")
        if DATASETS[name].columns is not None and settings.url is None:
            raise InputError(f"--download cannot fetch {name}: see {DATASETS[name].url} and give the file by --raw.")
        return download(settings.url or DATASETS[name].url, DATASETS[name].checksum, output_dir / "raw")
    if name != "ml-100k":
        raise InputError(f"convert {name} needs --raw PATH (a zip, a folder, a bare file or a .gz) or --download.")
    spec = find_spec("recbole")  # found, not imported: importing recbole takes seconds and torch
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / "dataset_example" / "ml-100k" / "ml-100k.inter"
        if path.is_file():
            return path
    raise InputError("no copy of ml-100k comes with this recbole: give --raw PATH or --download.")


def _convert(job: Job) -> dict[str, Any]:
    """Write the ``.inter`` file, the ``.item`` file and the card into the scratch folder; return the card."""
    settings = job.settings
    paths = sorted({source.path for source in job.sources})
    inter = job.scratch / f"{job.target}.inter"
    # hashlib lets go of the interpreter, so the checksum takes a core of its own.
    with ThreadPoolExecutor(1) as pool:
        checksum = pool.submit(file_checksum, *paths)
        counts, sessions = _write_rows(job, inter)
    options = {**asdict(settings), **asdict(job.thresholds)}
    if options["min_rating"] == -math.inf:
        options["min_rating"] = None  # JSON knows no infinity
    card = {
        "dataset": job.target,
        "converter": job.converter,
        "source": {
            "file": job.name.partition(":")[0],
            "member": job.sources[0].member if len(job.sources) == 1 else None,
            "bytes": sum(path.stat().st_size for path in paths) if paths else None,
            "sha256": checksum.result() if paths else None,
        },
        "options": options,
        "lines": {
            "good": job.check.good,
            "malformed": job.check.bad,
            "first_malformed": [bad._asdict() for bad in job.check.first],
        },
        "counts": [count._asdict() for count in counts],
        "output": {
            "file": inter.name,
            "rows": counts[-1].rows,
            "sessions": sessions,
            "bytes": inter.stat().st_size,
            "sha256": file_checksum(inter),
        },
        "versions": {
            "recbole_session": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ENGINES[settings.engine]},
        },
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"  # equal cards are equal bytes
    (job.scratch / CARD).write_text(text, encoding="utf-8", newline="\n")
    return card


def _write_rows(job: Job, inter: Path) -> tuple[list[engine.Count], int]:
    """Read and prepare the rows, write them and the titles; return the counts and the number of sessions."""
    settings, columns, prepare = job.settings, job.settings.columns, engine.prepare_with_duckdb
    if settings.engine == "spark":
        from recbole_session.converters.spark_engine import convert_with_spark, prepare_with_spark

        prepare = prepare_with_spark
    with engine.open_database(job.scratch) as connection:
        if columns is not None and (log := _log_for_spark(job, columns)):
            first = job.sources[0] if job.sources else Source(Path(job.name))
            columns = replace(columns, format=GenericReader(first, columns).format)
            counts, result, sessions = convert_with_spark(log, columns, job.thresholds, job.check, job.scratch)
        else:
            _load(connection, job)
            counts = prepare(connection, job.thresholds, settings.own_sessions, job.scratch)
            result, sessions = RESULT, engine.count_sessions(connection)
        _check_not_empty(counts, job.name)
        engine.write_inter(connection, inter, result)
        items, layout = inter.with_suffix(".item"), job.dataset.layout
        if columns is not None and columns.title is not None:
            engine.write_items(connection, items)
        elif layout is not None and (titles := film_titles(job.sources[0], layout)):
            engine.write_titles(connection, titles, items)
    return counts, sessions


def _load(connection: DuckDBPyConnection, job: Job) -> None:
    """Read all rows of the raw files into the database."""
    check = job.check
    readers = [_reader(job, source) for source in job.sources]
    engine.create_raw_table(connection, readers[0])
    for source, reader in zip(job.sources, readers, strict=True):
        check.name = source.name
        engine.load_file(connection, reader, job.scratch, check)
    check.name = job.name
    check.finish()


def _reader(job: Job, source: Source) -> engine.Reader:
    if job.settings.columns is not None:
        return GenericReader(source, job.settings.columns)
    layout = job.dataset.layout
    return MovieLensReader(source, layout, job.settings.skip_bad) if layout else SteamReader(source, job.check)


def _log_for_spark(job: Job, columns: Columns) -> list[str]:
    """Files that Spark is to read by itself; none if it is not asked for, or cannot."""
    if job.settings.engine != "spark":
        return []
    for_duckdb = columns.computed or columns.title is not None or columns.encoding != "utf-8"
    if not job.sources:
        if for_duckdb:
            raise InputError(f"--raw {job.name}: --where, '=' columns, --title_col and --encoding need a local file.")
        return [job.name]
    if for_duckdb or any(source.member for source in job.sources):
        return []
    # A path is not a pattern, whatever characters it holds.
    return ["file:" + re.sub(r"([][{}*?\\])", r"\\\1", str(source.path.resolve())) for source in job.sources]


def _check_not_empty(counts: list[engine.Count], name: str) -> None:
    if counts[-1].rows:
        return
    emptied = next(count.step for count in counts if not count.rows)
    flags = "--min_sessions or --min_rows_per_session" if emptied == "sessions" else f"--{emptied}"
    drops_users = emptied in ("min_user_rows", "sessions")
    raise InputError(
        f"{name}: of {counts[0].rows:,} rows none is left after the step {emptied!r}; "
        f"lower {flags}{', or keep everybody by --all_users' if drops_users else ''}."
    )
