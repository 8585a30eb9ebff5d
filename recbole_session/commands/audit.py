"""``recbole-session audit``: how much a trained model relies on knowing when the next interaction happens."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HELP = "evaluate runs with the time and session of the next interaction told, inferred and withheld"
EXAMPLES = ["audit RUN_FOLDER"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run_folders", nargs="+", type=Path, metavar="RUN_FOLDER", help="folder of a finished run")
    parser.add_argument("--data_path", type=Path, help="where datasets are (default: where the run found its own)")


def run(arguments: argparse.Namespace) -> None:
    """Audit the runs one by one and print a table for each."""
    from recbole_session.live import in_words, live_table
    from recbole_session.run.audit import audit_run
    from recbole_session.run.folder import CONTEXTS
    from recbole_session.run.run import Run

    folders, start = arguments.run_folders, time.monotonic()
    ended: list[float] = []  # seconds from the start, for each folder that is done

    def describe() -> tuple[list[tuple[str, str]], str]:
        elapsed = time.monotonic() - start
        states = ["done"] * len(ended) + [f"evaluated for {in_words(elapsed - (ended or [0.0])[-1])}"]
        states += [""] * len(folders)
        seconds = max(0.0, ended[-1] / len(ended) * len(folders) - elapsed) if ended else 0.0
        left = f", about {in_words(seconds)} left" if ended else ""
        return list(zip(map(str, folders), states, strict=False)), f"{len(ended)} of {len(folders)} runs audited{left}"

    with live_table(("run", "audit"), describe) as tell:
        for folder in folders:
            audit_run(folder, arguments.data_path)
            run = Run(folder)
            for context in CONTEXTS[1:]:
                run.ranks(context)  # which checks what is printed
            tell(("\n" if ended else "") + format_audit(str(folder), run.contexts))
            ended.append(time.monotonic() - start)


def format_audit(name: str, content: Mapping[str, Any]) -> str:
    """Text of the ``content`` of context.json: facts, a row per context, and what is lost without the true one."""
    from recbole_session.run.folder import CONTEXTS

    cells = [(candidates, metric) for candidates, metrics in content["told"].items() for metric in metrics]
    values = {context: [content[context][set_][metric] for set_, metric in cells] for context in CONTEXTS}
    table = [["context", *(f"{metric} {candidates}" for candidates, metric in cells)]]
    table += [[context, *(f"{value:.4f}" for value in values[context])] for context in CONTEXTS]
    for context in CONTEXTS[1:]:
        pairs = zip(values["told"], values[context], strict=True)
        table.append([f"lost if {context}", *(f"{1 - value / told:.1%}" if told else "-" for told, value in pairs)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]
    facts = (
        f"{name}: {content['targets']:,} targets, {content['told_new_session']:,} of which open a session; inferred "
        f"for {content['inferred_new_session']:,}, right for {content['inferred_right']:,}; the inferred time is off "
        f"by {content['inferred_time_error']:,.0f} s (median)"
    )
    return "\n".join([facts, "", *lines])
