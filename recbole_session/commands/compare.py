"""``recbole-session compare``: the paper's tables and figures, or a comparison of one's own, over several seeds."""

import argparse
from pathlib import Path

from recbole_session.errors import InputError, printable

HELP = "compare models over several seeds: the paper's Table 2 and Figure 2, or a plan of your own"
EXAMPLES = [
    "compare --dataset ml-100k --preset paper --seeds 3",
    "compare --dataset=ml-100k --plan=plan.yaml --workers=2 --epochs=20",
]
TAKES_KEYS = True
_OPTIONS = ("dataset", "preset", "plan", "seeds", "workers", "baseline", "name", "no_context", "config_files")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.usage = (
        "recbole-session compare --dataset=NAME (--preset=NAME | --plan=FILE) [options] "
        '[--config_files="a.yaml b.yaml"] [--key=value ...]'
    )
    parser.epilog = "--key=value sets any key of run_recbole_session.py, for all rows that read it."
    parser.add_argument("--dataset", required=True, help="name of a folder in data_path")
    parser.add_argument("--preset", help="paper (Table 2), segments or temporal (Figure 2), models (all features)")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="a comparison of your own, see docs/compare.md")
    parser.add_argument("--seeds", help="how many, counted on from 2020, or a list such as [1,7] (default: 5)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="runs at once (default: 1)")
    parser.add_argument("--baseline", metavar="ROW", help="row that the others are tested against")
    parser.add_argument("--name", help="of the folder comparison-NAME (default: the preset's or the file's)")
    parser.add_argument("--no_context", action="store_true", help="leave out the audit of the context")


def run(arguments: argparse.Namespace) -> None:
    """Compare, write the report, and say where it lies."""
    from recbole_session.compare import comparing
    from recbole_session.compare.plan import choose_plan
    from recbole_session.compare.resolving import check_names
    from recbole_session.config.values import parse_command_line
    from recbole_session.report.report import write_report

    if arguments.workers < 1:
        raise InputError(f"workers is {arguments.workers}; allowed: a whole number from 1")
    keys = parse_command_line(arguments.keys)
    config_files = str(keys.pop("config_files", "")).split()
    for key, advice in {"model": "the rows name their models", "seed": "give --seeds"}.items():
        if key in keys:
            raise InputError(f"--{key} cannot be given to a comparison: {advice}")
    check_names(keys, _OPTIONS, arguments.dataset)
    plan = choose_plan(arguments.preset, arguments.plan, arguments.seeds, arguments.baseline, arguments.name)
    prepared = comparing.prepare(plan, arguments.dataset, config_files, keys)
    comparison = comparing.compare(prepared, arguments.workers, not arguments.no_context, arguments.command)
    written = write_report(comparison, prepared.folder)
    for (name, seed), reason in comparison.failures.items():
        print(printable(f"FAILED: {name}, seed {seed}: {reason} (log: {prepared.folder / 'failures.log'})"))
    print(f"{prepared.folder}: {', '.join(sorted(path.name for path in written))}")
