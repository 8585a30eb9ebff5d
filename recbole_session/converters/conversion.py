"""One conversion from the raw file to the atomic files: reader, engine, writer and card put together."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from recbole_session import __version__
from recbole_session.converters.datasets import DATASETS, Dataset
from recbole_session.converters.download import download
from recbole_session.converters.generic import Columns, read_generic
from recbole_session.converters.movielens import read_movielens
from recbole_session.converters.pipeline import Count, Prepared
from recbole_session.converters.rows import LineCheck, Rows
from recbole_session.converters.sources import Source, file_checksum, find_source
from recbole_session.converters.steam import read_steam
from recbole_session.converters.thresholds import Thresholds, resolve_thresholds
from recbole_session.converters.tokens import CodedRows
from recbole_session.converters.writing import publish, scratch_folder, write_card, write_inter
from recbole_session.errors import InputError

Engine = Callable[[CodedRows, Thresholds, Path], Prepared]
# Engine -> the function, and the packages whose versions the card names.
ENGINES = {
    "pandas": ("recbole_session.converters.spilling:prepare_in_runs", ("numpy", "pandas")),
    "duckdb": ("recbole_session.converters.duckdb_engine:prepare_with_duckdb", ("numpy", "pandas", "duckdb")),
    "spark": ("recbole_session.converters.spark_engine:prepare_with_spark", ("numpy", "pandas", "pyspark")),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Options:
    """Everything a conversion can be told beside the thresholds."""

    dataset: str | None = None
    engine: str = "pandas"
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
    def policy(self) -> str:
        """What `LineCheck` is to do about malformed lines."""
        return "strict" if self.strict else "skip" if self.skip_bad else "tolerant"


class Conversion(NamedTuple):
    """The written file and its card."""

    path: Path
    card: dict[str, Any]


def run_conversion(name: str, raw: Path | None, output_dir: Path, **options: Any) -> Conversion:
    """Do what `recbole_session.converters.convert` describes, and return the card too."""
    thresholds_given = {key: options.pop(key) for key in list(options) if key in Thresholds.__annotations__}
    unknown = set(options) - {field.name for field in fields(Options)}
    if unknown:
        raise InputError(f"convert has no option {sorted(unknown)[0]!r}: see recbole-session convert --help.")
    settings = Options(**options)
    if name != "generic" and name not in DATASETS:
        raise InputError(f"no dataset is called {name!r}: choose one of {', '.join(DATASETS)} or generic.")
    known = DATASETS.get(name)
    base = known or Dataset("", (), None)
    all_users = base.all_users if settings.all_users is None else settings.all_users
    thresholds = resolve_thresholds(base.thresholds, all_users, thresholds_given)
    target = settings.dataset or name
    if known is None and (settings.dataset is None or settings.columns is None):
        raise InputError("convert generic needs --dataset NAME and the names of its columns.")
    source = find_source(_raw_path(name, raw, Path(output_dir), settings), base.files)
    check = LineCheck(source.name, settings.policy)
    rows = _reader(name, source, settings, check)
    return _convert_rows(rows, source, check, target, Path(output_dir), thresholds, settings, name)


def _raw_path(name: str, raw: Path | None, output_dir: Path, settings: Options) -> Path:
    if raw is not None and not settings.download:
        return Path(raw)
    if raw is not None:
        raise InputError("--raw and --download contradict each other: give one.")
    if settings.download:
        if name not in DATASETS:
            raise InputError("--download knows no generic dataset: give the file by --raw.")
        return download(settings.url or DATASETS[name].url, DATASETS[name].checksum, output_dir / "raw")
    if name == "ml-100k":
        return _bundled_ml_100k()
    raise InputError(f"convert {name} needs --raw PATH (a zip, a folder, a bare file or a .gz) or --download.")


def _bundled_ml_100k() -> Path:
    spec = find_spec("recbole")  # found, not imported: importing recbole takes seconds and torch
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / "dataset_example" / "ml-100k" / "ml-100k.inter"
        if path.is_file():
            return path
    raise InputError("no copy of ml-100k comes with this recbole: give --raw PATH or --download.")


def _reader(name: str, source: Source, settings: Options, check: LineCheck) -> Iterator[Rows]:
    if settings.columns is not None and name == "generic":
        return read_generic(source, settings.columns, check)
    layout = DATASETS[name].layout
    return read_movielens(source, layout, check) if layout else read_steam(source, check)


def _convert_rows(
    rows: Iterator[Rows],
    source: Source,
    check: LineCheck,
    target: str,
    output_dir: Path,
    thresholds: Thresholds,
    settings: Options,
    converter: str,
) -> Conversion:
    coded = CodedRows(rows)
    prepare = _load_engine(settings.engine)
    # hashlib lets go of the interpreter, so the checksum takes the second core while this one parses.
    with ThreadPoolExecutor(1) as pool, scratch_folder(output_dir) as scratch, closing(rows):  # type: ignore[type-var]
        checksum = pool.submit(file_checksum, source.path)
        prepared = prepare(coded, thresholds, scratch)
        _check_not_empty(prepared.counts, source.name)
        inter = f"{target}.inter"
        written = write_inter(scratch / inter, prepared.chunks, coded.users.tokens(), coded.items.tokens())
        card = {
            "dataset": target,
            "converter": converter,
            "source": {
                "file": source.path.name,
                "member": source.member,
                "bytes": source.path.stat().st_size,
                "sha256": checksum.result(),
            },
            "options": {**asdict(settings), **_finite(asdict(thresholds))},
            "lines": {
                "good": check.good,
                "malformed": check.bad,
                "first_malformed": [{"line": line, "reason": reason} for line, reason in check.first],
            },
            "counts": [count._asdict() for count in prepared.counts],
            "output": {"file": inter, **written._asdict()},
            "versions": _versions(settings.engine),
        }
        write_card(scratch / "dataset.json", card)
        return Conversion(publish(scratch, output_dir / target, inter), card)


def _load_engine(name: str) -> Engine:
    module, _, function = ENGINES[name][0].partition(":")
    engine: Engine = getattr(importlib.import_module(module), function)
    return engine


def _check_not_empty(counts: list[Count], name: str) -> None:
    if counts[-1].rows:
        return
    emptied = next(count.step for count in counts if not count.rows)
    flags = "--min_sessions or --min_rows_per_session" if emptied == "sessions" else f"--{emptied}"
    raise InputError(
        f"{name}: of {counts[0].rows:,} rows none is left after the step {emptied!r}; "
        f"lower {flags}, or keep everybody by --all_users."
    )


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity: no lower bound is null."""
    return {key: None if value == float("-inf") else value for key, value in values.items()}


def _versions(engine: str) -> dict[str, str]:
    packages = {package: version(package) for package in ENGINES[engine][1]}
    return {"recbole_session": __version__, "python": platform.python_version(), **packages}
