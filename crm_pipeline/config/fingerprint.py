"""What decides the content of one object's table, as one short text.

Belongs here: the fingerprint that tells a changed choice from an unchanged one, so that a newly
mapped field or another filter asks for a full sync. Does not belong here: comparing and storing it
(sync/, warehouse/).
"""

import hashlib
import json
from datetime import date, datetime
from decimal import Decimal

from crm_pipeline.model.filters import All, Any, Comparison, FilterValue, Not, RecordFilter
from crm_pipeline.model.objects import ObjectSelection


def selection_fingerprint(selection: ObjectSelection) -> str:
    """SHA-256, in hexadecimal, of the fields with their columns and of the filter.

    The order of fields, the spelling of the filter's text, direction, transport and table play no
    part: none of them changes a stored value. The text format is pinned by a test, for another
    fingerprint means reading everything again.
    """
    content = {
        "object": selection.name,
        "columns": sorted([m.field.name, m.column] for m in selection.columns),
        "filter": _filter(selection.record_filter),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def filter_fingerprint(record_filter: RecordFilter | None) -> str:
    """A filter as one line of JSON: equal for equal filters, however they were spelt."""
    return json.dumps(_filter(record_filter), sort_keys=True)


def _filter(record_filter: RecordFilter | None) -> object:
    """A filter as JSON; each shape is told apart by its first item."""
    match record_filter:
        case None:
            return None
        case Comparison(field=field, comparator=comparator, value=tuple() as values):
            return ["compare", field, comparator.value, [_value(v) for v in values]]
        case Comparison(field=field, comparator=comparator, value=value):
            return ["compare", field, comparator.value, _value(value)]
        case All(parts=parts):
            return ["all", [_filter(part) for part in parts]]
        case Any(parts=parts):
            return ["any", [_filter(part) for part in parts]]
        case Not(part=part):
            return ["not", _filter(part)]


def _value(value: FilterValue | tuple[FilterValue, ...]) -> object:
    """A literal with its type, so that '1' and 1 differ and 1.0 and 1 do not."""
    match value:
        case Decimal():
            plain = format(value.normalize(), "f")
            return ["number", "0" if value == 0 else plain]
        case datetime():
            return ["instant", value.isoformat()]
        case date():
            return ["day", value.isoformat()]
        case _:
            return value
