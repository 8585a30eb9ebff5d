"""``recbole-session stats``: Table 1 of a dataset, next to the paper's column."""

import argparse
from pathlib import Path

from recbole_session.converters.preprocessing import DAY
from recbole_session.data.stats import PAPER, gap_rows, group_sizes, load_sequences, plot_sizes, table_rows
from recbole_session.errors import InputError

HELP = "print Table 1's lines for a dataset and how its sessions react to the gap"
EXAMPLES = ["stats ml-100k", "stats ml-1m --plot sessions.png"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("name", help="name of a dataset in DATA_PATH")
    parser.add_argument("--data_path", type=Path, default=Path("atomic_data"), help="where datasets are")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw sessions and gaps into this file")
    parser.add_argument("--session_gap", type=int, default=DAY, help="seconds; for data without a session_id")


def run(arguments: argparse.Namespace) -> None:
    """Print the tables and, if asked for, draw the picture."""
    name = arguments.name
    if arguments.session_gap < 0:
        raise InputError(f"--session_gap is {arguments.session_gap}, but must be seconds of at least 0.")
    sequences = load_sequences(arguments.data_path / name / f"{name}.inter", arguments.session_gap)
    if arguments.plot:
        plot_sizes(group_sizes(sequences), name, arguments.plot)
    paper = PAPER.get(name)
    print(f"{name:<24}{'here':>14}" + (f"{'paper':>14}" if paper else ""))
    for row, (label, value) in enumerate(table_rows(sequences)):
        print(f"{label:<24}{value:>14}" + (f"{paper[row]:>14}" if paper else ""))
    print()
    columns = ("gap over", "sessions", "session/user", "item/session", "users passing")
    for line in [columns, *gap_rows(sequences)]:
        print(f"{line[0]:<10}" + "".join(f"{cell:>16}" for cell in line[1:]))
    if arguments.plot:
        print(f"drawn: {arguments.plot}")
