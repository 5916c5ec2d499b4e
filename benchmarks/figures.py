"""Figures with their aims: shown to people, and written into a page of the documentation.

Belongs here: what a figure is, and showing it. Does not belong here: measuring anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of a table.

    Attributes:
        what: in a few words.
        measured: with its unit.
        ratio: to the limit or the floor of the same run.
        aim: the ratio to reach; empty where there is none.
        is_reached: whether it is; None where there is no aim.
        detail: what helps to understand it.
    """

    what: str
    measured: str
    ratio: str = ""
    aim: str = ""
    is_reached: bool | None = None
    detail: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells."""
        verdict = {None: "", True: ": yes", False: ": NO"}[self.is_reached]
        return (self.what, self.measured, self.ratio, self.aim + verdict, self.detail)


HEADINGS = ("what", "measured", "ratio", "aim", "detail")


@dataclass
class Chapter:
    """A table with its title."""

    title: str
    figures: list[Figure] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table(*HEADINGS, title=self.title)
        for figure in self.figures:
            style = "bold red" if figure.is_reached is False else None
            table.add_row(*figure.cells, style=style)
        console.print(table)

    @property
    def lines(self) -> list[str]:
        """The table as Markdown."""
        rows = [f"| {' | '.join(f.cells)} |" for f in self.figures]
        heading = f"| {' | '.join(HEADINGS)} |"
        return ["", f"### {self.title}", "", heading, f"|{'---|' * len(HEADINGS)}", *rows]


def write(chapters: Sequence[Chapter], page: Path, mark: str, preface: str) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = f"<!-- {mark} begin -->", f"<!-- {mark} end -->"
    before, found, rest = page.read_text().partition(begin)
    if not found:
        raise SystemExit(f"{page} has no mark {begin}")
    _, _, after = rest.partition(end)
    lines = [begin, preface, *(line for one in chapters for line in one.lines), end]
    page.write_text(before + "\n".join(lines) + after)
