"""Records in REST's JSON as the CSV rows that Bulk would give for them.

Belongs here: the form of values. Does not belong here: asking for records (rest.py).

Both transports must fill the warehouse with equal bytes: all values quoted, `""` for null, `true`
and `false`, instants ending in Z, numbers with the digits that Salesforce sent.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from crm_pipeline.errors import TransientError
from crm_pipeline.model.characters import encoded
from crm_pipeline.model.objects import CrmObject, ValueType

Row = Mapping[str, Any]
_ROWS_AT_ONCE = 100  # text being written takes four bytes a character


def decoded(body: bytes) -> Any:
    """JSON with every number as the text it was: floats lose 99999999999999.99.

    Raises:
        TransientError: it is no JSON.
    """
    try:
        return json.loads(body, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        broken = True
    # Raised outside of the except block: the cause would carry the body.
    assert broken
    raise TransientError("Salesforce sent broken JSON; the page is read again.")


class RowWriter:
    """Writes records as CSV; made once per read, because its columns do not change."""

    def __init__(self, crm_object: CrmObject, names: Sequence[str]) -> None:
        self._values = _reader(names)
        self._odd = [
            (position, form)
            for position, name in enumerate(names)
            if (form := _form_of(crm_object, name)) is not None
        ]

    def rows(self, records: Iterable[Row]) -> tuple[bytes, int]:
        """The rows without a header line, and how many characters were replaced."""
        pieces, replaced = [], 0
        left = map(self._row, records)
        while portion := list(islice(left, _ROWS_AT_ONCE)):
            text = io.StringIO(newline="")
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(portion)
            piece, replaced_in_piece = encoded(text.getvalue())
            pieces.append(piece)
            replaced += replaced_in_piece
        return b"".join(pieces), replaced

    def _row(self, record: Row) -> list[object]:
        row = list(self._values(record))
        for position, form in self._odd:
            row[position] = form(row[position])
        return row


def _reader(names: Sequence[str]) -> Callable[[Row], Iterable[object]]:
    plain = all("." not in name for name in names)
    if plain and len(names) > 1:
        # Null fields are in the JSON as null, so a KeyError means a page of something else.
        return itemgetter(*names)
    paths = [name.split(".") for name in names]
    return lambda record: [_at(record, path) for path in paths]


def _at(record: Row, path: Sequence[str]) -> object:
    value: object = record
    for step in path:
        if value is None:  # a record without that parent
            return None
        value = value[step] if isinstance(value, Mapping) else None
    return value


def _form_of(crm_object: CrmObject, name: str) -> Callable[[object], object] | None:
    field = crm_object.find(name)
    if field is None or field.value_type is ValueType.BOOLEAN:
        return _boolean
    return _instant if field.value_type is ValueType.DATETIME else None


def _boolean(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _instant(value: object) -> object:
    """REST writes the zone as +0000, Bulk as Z."""
    return value[:-5] + "Z" if isinstance(value, str) and value.endswith("+0000") else value
