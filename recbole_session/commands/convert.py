"""``recbole-session convert``: flags in, a summary or one sentence out."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from recbole_session.converters.columns import ENCODINGS, FORMATS, TIME_UNITS, Columns
from recbole_session.converters.conversion import ENGINES, dry_run, run_conversion
from recbole_session.converters.datasets import DATASETS
from recbole_session.converters.lines import shown
from recbole_session.converters.preprocessing import Thresholds
from recbole_session.errors import InputError

HELP = "turn a published or your own raw file into atomic files"
EXAMPLES = [
    "convert ml-100k",
    "convert ml-1m --download",
    "convert generic --dataset clicks --raw clicks.csv --user_col=user --item_col=item --time_col=time",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; a threshold that is not typed is None and left to the dataset."""
    parser.add_argument("name", choices=[*DATASETS, "generic"], help="what the raw file is")
    parser.add_argument("--raw", help="a zip, a folder, a bare file, a .gz, or a pattern; with Spark s3a://... too")
    parser.add_argument("--download", action="store_true", help="fetch the published file into DATA_PATH/raw")
    parser.add_argument("--url", help="with --download: another address of the same file")
    parser.add_argument("--data_path", type=Path, default=Path("atomic_data"), help="where datasets go")
    parser.add_argument("--dry_run", action="store_true", help="show the first rows as read, and write nothing")
    parser.add_argument("--dataset", help="name of the written dataset (default: NAME)")
    parser.add_argument("--engine", choices=list(ENGINES), default="duckdb", help="what does the preprocessing")
    lines = parser.add_mutually_exclusive_group()
    lines.add_argument("--strict", action="store_true", help="stop at the first malformed line")
    lines.add_argument("--skip_bad", action="store_true", help="leave malformed lines out, however many they are")
    steps = parser.add_argument_group("preprocessing (default: the paper's values)")
    everybody = "keep everybody: no user is dropped for having few rows or sessions (default for ml-100k)"
    steps.add_argument("--all_users", action=argparse.BooleanOptionalAction, help=everybody)
    for field in fields(Thresholds):
        kind = float if field.name == "min_rating" else int
        steps.add_argument(f"--{field.name}", type=kind, help=field.metadata["help"])
    generic = parser.add_argument_group("generic files")
    for name in ("user", "item", "time", "rating", "session", "title"):
        generic.add_argument(f"--{name}_col", dest=name, metavar="COLUMN", help=f"name of the {name} column")
    generic.add_argument("--time_unit", choices=TIME_UNITS, help="Unix seconds (default) or ms, or ISO dates")
    generic.add_argument("--where", metavar="CONDITION", help="rows to read, in SQL: \"event = 'view'\"")
    generic.add_argument("--encoding", choices=ENCODINGS, help="of a text file (default: utf-8)")
    generic.add_argument("--format", choices=list(FORMATS), help="default: by the file's ending")
    generic.add_argument("--delimiter", help="of a CSV file (default: a comma; tab is a name too)")


def run(arguments: argparse.Namespace) -> None:
    """Convert and print what was made."""
    options = {field.name: getattr(arguments, field.name) for field in fields(Thresholds)}
    for name in ("dataset", "engine", "strict", "skip_bad", "all_users", "download", "url"):
        options[name] = getattr(arguments, name)
    options["columns"] = _columns(arguments)
    if arguments.dry_run:
        check, rows, sessions = dry_run(arguments.name, arguments.raw, arguments.data_path, **options)
        _print_malformed({"malformed": check.bad, "first_malformed": [bad._asdict() for bad in check.first]})
        for row in (["user", "item", "rating", "seconds", "UTC", "session"], *rows):
            print("".join(f"{shown(value, 20)[1:-1]:<25}" for value in row).rstrip())
        print(f"{check.good:,} rows, {sessions:,} sessions; nothing was written")
        return
    conversion = run_conversion(arguments.name, arguments.raw, arguments.data_path, **options)
    _print_malformed(conversion.card["lines"])
    print(f"{'step':<20}{'rows':>14}{'users':>12}{'items':>12}")
    for count in conversion.card["counts"]:
        print(f"{count['step']:<20}{count['rows']:>14,}{count['users']:>12,}{count['items']:>12,}")
    print(f"written: {conversion.path}")


def _columns(arguments: argparse.Namespace) -> Columns | None:
    names = {field.name for field in fields(Columns)} & vars(arguments).keys()
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
    if arguments.name != "generic":
        if given:
            raise InputError(f"--user_col and the like are for convert generic, not for {arguments.name}.")
        return None
    missing = [f"--{name}_col" for name in ("user", "item", "time") if name not in given]
    if missing:
        raise InputError(f"convert generic needs {' and '.join(missing)}: say which column holds what.")
    if given.get("delimiter") in ("tab", "\\t"):
        given["delimiter"] = "\t"
    return Columns(**given)


def _print_malformed(lines: dict[str, Any]) -> None:
    for bad in lines["first_malformed"]:
        print(f"line {bad['line']} left out: {bad['reason']}", file=sys.stderr)
    if lines["malformed"] > len(lines["first_malformed"]):
        print(f"... {lines['malformed']:,} lines left out in all", file=sys.stderr)
