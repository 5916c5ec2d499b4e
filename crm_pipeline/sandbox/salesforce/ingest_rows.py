"""The CSV of ingest jobs: what a file says, row by row, and the files of results.

An empty cell leaves its field alone, `#N/A` empties it, and the header alone decides on the
columns.

Belongs here: bytes to values, outcomes to bytes. Does not belong here: jobs (ingest.py), writing
the rows (writer.py).
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.writable import lookup_named

Row = dict[str, Any]
DELIMITERS = {
    "BACKQUOTE": "`",
    "CARET": "^",
    "COMMA": ",",
    "PIPE": "|",
    "SEMICOLON": ";",
    "TAB": "\t",
}
LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}
_NULL = "#N/A"
_MOST_CHARACTERS = 32_000  # in a cell
_MOST_COLUMNS = 5_000


@dataclass(frozen=True, slots=True)
class Table:
    """The uploaded rows as they were written, and what each column means."""

    header: tuple[str, ...]
    rows: list[list[str]]

    def values(self, row: Sequence[str], definition: ObjectDefinition) -> Row:
        """One row as values by field; parents named by an external id are nested."""
        found: Row = {}
        for name, cell in zip(self.header, row, strict=True):
            if cell == "":
                continue
            value = None if cell == _NULL else cell
            relationship, dot, key = name.partition(".")
            if not dot:
                found[name] = value
            elif value is None:
                lookup = lookup_named(definition, relationship)
                found[lookup.name if lookup else relationship] = None
            else:
                found[relationship] = {key: value}
        return found


def parsed(content: bytes, definition: ObjectDefinition, delimiter: str, ending: str) -> Table:
    """The rows of an upload; an OrgError says why the whole job fails."""
    text = content.decode("utf-8", "replace")
    if not text:
        return Table((), [])
    _check_ending(text, ending)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[delimiter])
    try:
        lines = [row for row in reader if row]
    except csv.Error as error:
        raise OrgError("InvalidBatch", f"Failed to parse CSV: {error}") from None
    header, rows = tuple(lines[0]), lines[1:]
    _check_header(header, definition)
    for row in rows:
        if len(row) != len(header):
            raise OrgError(
                "InvalidBatch",
                f"Number of fields in row does not match header: expected {len(header)}, "
                f"found {len(row)}",
            )
        if any(len(cell) > _MOST_CHARACTERS for cell in row):
            raise OrgError(
                "InvalidBatch", f"Field value is longer than {_MOST_CHARACTERS} characters"
            )
    return Table(header, rows)


def _check_ending(text: str, ending: str) -> None:
    """The end of the header tells how the lines end."""
    line = text[: text.find("\n") + 1]
    if line and (line.endswith("\r\n") != (ending == "CRLF")):
        raise OrgError(
            "ClientInputError",
            f"LineEnding is invalid on user data. Current LineEnding setting is {ending}",
        )


def _check_header(header: Sequence[str], definition: ObjectDefinition) -> None:
    if len(header) > _MOST_COLUMNS:
        raise OrgError("InvalidBatch", f"Number of columns exceeds {_MOST_COLUMNS}")
    for name in header:
        relationship, dot, _ = name.partition(".")
        known = lookup_named(definition, relationship) if dot else definition.field(name)
        if known is None:
            raise OrgError("InvalidBatch", f"Field name not found : {name}")


def result_file(
    leading: Sequence[str],
    header: Sequence[str],
    rows: Iterator[tuple[Sequence[str], Sequence[str]]],
    delimiter: str,
    ending: str,
) -> bytes:
    """A file of results: what the org says first, then the row as it was uploaded."""
    held = io.StringIO(newline="")
    writer = csv.writer(
        held,
        delimiter=DELIMITERS[delimiter],
        lineterminator=LINE_ENDINGS[ending],
        quoting=csv.QUOTE_ALL,
    )
    writer.writerow([*leading, *header])
    writer.writerows([*said, *row] for said, row in rows)
    return held.getvalue().encode("utf-8", "surrogatepass")
