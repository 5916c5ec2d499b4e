"""Finding records by the value of a field: people by address, records by a key of somebody's.

Belongs here: asking for many values at once. Does not belong here: which of the records that are
found is meant (actions/), the form of the query (soql.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce import soql
from crm_pipeline.crm.salesforce.rest import Answer, RestQueries, fits_into_an_address
from crm_pipeline.model.filters import Comparator, Comparison
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import Value

MOST_VALUES = 200


def found_by(
    queries: Callable[[ReadRequest], RestQueries],
    crm_object: CrmObject,
    field_name: str,
    values: Sequence[str],
    fields: Sequence[str],
) -> Iterator[Mapping[str, Value]]:
    """Records outside of the recycle bin, in the order of their ids within a call.

    Args:
        queries: sends the queries of a request.
        crm_object: as described.
        field_name: what is searched by.
        values: any of these; more than 200 are asked for in turn.
        fields: what else is wanted of the records.

    Raises:
        FieldUnavailable: describe does not show a field.
        PermanentError: the field cannot be filtered by, or a value holds control characters.
    """
    names = tuple(dict.fromkeys((crm_object.id_field, field_name, *fields)))
    for request in _requests(crm_object, field_name, tuple(dict.fromkeys(values)), names):
        spelt = soql.field_names(request)
        sender = queries(request)
        answer: Answer | None = sender.begin()
        while answer is not None:
            for record in answer.records:
                yield {name: record.get(name) for name in spelt}
            address = answer.next_address
            answer = sender.go_on(address) if address else None


def _requests(
    crm_object: CrmObject, field_name: str, values: tuple[str, ...], names: tuple[str, ...]
) -> Iterator[ReadRequest]:
    """As few as possible: 200 values each, or fewer where they are too long for an address."""
    if not values:
        return
    request = ReadRequest(
        crm_object,
        names,
        record_filter=Comparison(field_name, Comparator.IN, values),
        include_deleted=False,
    )
    if len(values) == 1 or (len(values) <= MOST_VALUES and fits_into_an_address(request)):
        yield request
        return
    half = min(MOST_VALUES, (len(values) + 1) // 2)
    yield from _requests(crm_object, field_name, values[:half], names)
    yield from _requests(crm_object, field_name, values[half:], names)
