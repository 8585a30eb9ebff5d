"""A live view of work in progress in a terminal, and plain lines everywhere else."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from recbole_session.errors import printable

Rows = Sequence[Sequence[str]]


@contextmanager
def live_table(columns: Sequence[str], rows: Callable[[], tuple[Rows, str]]) -> Iterator[Callable[[str], None]]:
    """Keep a table with the headings ``columns`` at the bottom of the terminal while the block runs.

    ``rows`` returns the cells of the table and a line below it; it is called twice a second, in a thread of its own.
    The block gets a function that prints a line above the table. Where standard output is not a terminal, these lines
    are all that is printed.
    """
    if not sys.stdout.isatty():
        yield lambda line: print(printable(line), flush=True)
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def draw() -> Group:
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        cells, line = rows()
        for each in cells:
            table.add_row(*map(Text, each))
        return Group(table, Text(line, style="dim"))

    console = Console()
    with Live(get_renderable=draw, console=console, refresh_per_second=2, transient=True):
        yield lambda line: console.print(Text(printable(line)), soft_wrap=True)


def in_words(seconds: float) -> str:
    """Write a duration as people say it: seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
