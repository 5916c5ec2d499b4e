"""What reaches the terminal: two consoles, the log handler, tables and JSON.

Holds everything about how output looks. Belongs here: a way of showing that two commands share.
Does not belong here: what is shown (each command's own module) and exit codes (main.py).
"""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import stamina.instrumentation
from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from crm_pipeline.config.names import printable
from crm_pipeline.warehouse.wording import told, trace_of

_log = logging.getLogger(__name__)
_LONGEST_LINE = 10_000


def stdout() -> Console:
    """Where answers go: tables, JSON, export lines."""
    return _console(Console(highlight=False, soft_wrap=True))


def stderr() -> Console:
    """Where everything else goes: progress, notices, the one sentence of an error."""
    return _console(Console(stderr=True, highlight=False, soft_wrap=True))


def _console(console: Console) -> Console:
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console


def configure_logging(*, verbose: bool) -> None:
    """Send log records to stderr: warnings, or everything of ours when `verbose`."""
    handler = RichHandler(console=stderr(), show_path=False, rich_tracebacks=False)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    handler.setFormatter(PlainFormatter())
    if verbose:
        logging.getLogger("crm_pipeline").setLevel(logging.DEBUG)
    # Its own hook would write to stdout where structlog happens to be installed.
    stamina.instrumentation.set_on_retry_hooks([_tell_retry])


class PlainFormatter(logging.Formatter):
    """One line per record, with nothing in it that a terminal would obey; errors without values."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's own words on one line, then where the error came from."""
        said = printable(record.getMessage(), limit=_LONGEST_LINE)
        error = record.exc_info[1] if record.exc_info else None
        return said if error is None else f"{said}\n{lines_of(trace_of(error))}"


def lines_of(text: str) -> str:
    """The text without control characters, except that its lines stay lines."""
    return "\n".join(printable(line, limit=_LONGEST_LINE) for line in text.split("\n"))


def _tell_retry(details: stamina.instrumentation.RetryDetails) -> None:
    _log.info("%s Trying again in %.1f s.", told(details.caused_by), details.wait_for)


def print_json(document: object) -> None:
    """One JSON document on stdout and nothing else there."""
    text = orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2)
    sys.stdout.write(text.decode() + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else str(value)


def table_of(
    rows: Iterable[Mapping[str, object]], columns: Mapping[str, str], *, title: str | None = None
) -> Table:
    """A table of some columns.

    Args:
        rows: values by key.
        columns: headings by key, in order.
        title: printed above.
    """
    found = [{key: row.get(key) for key in columns} for row in rows]
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for key, heading in columns.items():
        values = [row[key] for row in found]
        table.add_column(
            heading,
            justify="right" if _are_numbers(values) else "left",
            overflow="fold",
            no_wrap=_are_numbers(values),
        )
    for row in found:
        # Text, not str: square brackets in a value must not be read as markup.
        table.add_row(*(Text(shown(value)) for value in row.values()))
    return table


def _are_numbers(values: Sequence[object]) -> bool:
    numbers = [value for value in values if value is not None]
    return bool(numbers) and all(isinstance(value, int | float | Decimal) for value in numbers)


def shown(value: object) -> str:
    """A value as a cell of a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float() | Decimal():
            return f"{value:,.1f}"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case _:
            return lines_of(str(value))
