"""Figures with their targets, as a table for people.

Belongs here: what a figure is, and showing it. Does not belong here: measuring anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        number: as in the contract, M1 to M15.
        what: in a few words.
        ran: what was run.
        target: the figure to reach.
        result: the figure reached.
        is_reached: whether that is good enough.
    """

    number: str
    what: str
    ran: str
    target: str
    result: str
    is_reached: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells."""
        verdict = "yes" if self.is_reached else "NO"
        return (self.number, self.what, self.ran, self.target, self.result, verdict)


HEADINGS = ("figure", "of", "what was run", "target", "result", "reached")


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the table."""
    table = Table(*HEADINGS, title="Reliability", show_lines=True)
    for figure in figures:
        table.add_row(*figure.cells, style=None if figure.is_reached else "bold red")
    console.print(table)


def write(figures: Sequence[Figure], page: Path, preface: Iterable[str]) -> None:
    """Replace the table in a page of the documentation, between its two marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [
        BEGIN,
        *preface,
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in f.cells)} |" for f in figures),
        END,
    ]
    page.write_text(before + "\n".join(lines) + after)
