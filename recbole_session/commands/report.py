"""``recbole-session report``: tables and report of runs that are finished; nothing is trained."""

import argparse
from pathlib import Path

from recbole_session.errors import InputError

HELP = "write tables, statistics and an HTML report of finished runs, or of a comparison"
EXAMPLES = ["report saved/ml-100k/comparison-paper", "report RUN_FOLDER OTHER_RUN_FOLDER --output report"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    folders = "folder of one comparison, or run folders of one dataset"
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help=folders)
    parser.add_argument("--output", type=Path, help="folder of the report (default: the comparison's own, or report/)")
    parser.add_argument("--baseline", help="row to test against (default: the comparison's, or SessionBERT4Rec [])")
    parser.add_argument("--data_path", type=Path, help="folder of the dataset's folder (default: the runs')")
    parser.add_argument("--safe_csv", action="store_true", help="write ' before texts that look like formulas")


def run(arguments: argparse.Namespace) -> None:
    """Read the runs, write the report, and print the table."""
    from recbole_session.compare.runs import read_comparison
    from recbole_session.report.grouping import group_runs
    from recbole_session.report.report import write_report

    comparisons = [folder for folder in arguments.folders if (folder / "comparison.yaml").is_file()]
    if comparisons and len(arguments.folders) > 1:
        raise InputError(f"{comparisons[0]} is a comparison; name it alone, or name run folders only")
    if comparisons:
        comparison = read_comparison(comparisons[0])
        if arguments.baseline is not None:
            comparison = comparison.with_baseline(arguments.baseline)
    else:
        comparison = group_runs(arguments.folders, arguments.baseline)
    output = arguments.output or (comparisons[0] if comparisons else Path("report"))
    if output.exists() and not output.is_dir():
        raise InputError(f"output is {output}, which is a file; name a folder")
    written = write_report(comparison, output, arguments.data_path, arguments.safe_csv)
    print((output / "table.md").read_text(encoding="utf-8"))
    print(f"{output}: {', '.join(path.name for path in written)}")
