"""Many records in one call: collections of up to 200, trees of parents and children.

Belongs here: the handlers and the form of their answers. Does not belong here: per-row outcomes
(batches.py), whole requests in one (subrequests.py).
"""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import identifiers, rows
from crm_pipeline.sandbox.salesforce.batches import (
    Outcome,
    Work,
    check_named_once,
    each,
    named_twice,
)
from crm_pipeline.sandbox.salesforce.calls import Call, answer
from crm_pipeline.sandbox.salesforce.editing import own_id
from crm_pipeline.sandbox.salesforce.failures import OrgError, malformed_id
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.writable import key_field, known
from crm_pipeline.sandbox.salesforce.writer import Writer

Row = dict[str, Any]
_MOST = 200
_MOST_RETRIEVED = 2_000


def _done(
    call: Call,
    writer: Writer,
    given: Sequence[Row],
    work: Work,
    *,
    all_or_none: bool,
    upserted: bool = False,
) -> Response:
    if len(given) > _MOST:
        raise OrgError(
            "EXCEEDED_ID_LIMIT",
            f"record limit reached. cannot submit more than {_MOST} records into this call",
        )
    outcomes = each(call.org, writer.request, given, work, all_or_none=all_or_none)
    return answer([_shown(one, upserted=upserted) for one in outcomes])


def _shown(outcome: Outcome, *, upserted: bool) -> Row:
    if outcome.error is not None:
        return {"success": False, "errors": [outcome.error.row()]}
    found: Row = {"id": outcome.id, "success": True, "errors": []}
    return found | {"created": outcome.created} if upserted else found


def _records(call: Call) -> tuple[list[Row], bool]:
    body = call.json_object()
    given = body.get("records")
    if not isinstance(given, list):
        raise OrgError("INVALID_INPUT", "The records attribute is missing")
    return given, bool(body.get("allOrNone", False))


def _kind(call: Call, row: Row) -> ObjectDefinition:
    name = (row.get("attributes") or {}).get("type")
    if not name:
        raise OrgError("INVALID_INPUT", "Include an entity type in 'attributes.type'")
    return call.org.catalogue.visible(str(name))


def create(call: Call) -> Response:
    """POST /composite/sobjects."""
    given, all_or_none = _records(call)
    writer = call.writer()

    def work(row: Row) -> tuple[str, bool]:
        return writer.insert(_kind(call, row), row), True

    return _done(call, writer, given, work, all_or_none=all_or_none)


def update(call: Call) -> Response:
    """PATCH /composite/sobjects."""
    given, all_or_none = _records(call)
    writer = call.writer()

    def work(row: Row) -> tuple[str, bool]:
        definition = _kind(call, row)
        named = next((value for name, value in row.items() if name.lower() == "id"), None)
        if named is None:
            raise OrgError("MISSING_ARGUMENT", "Id not specified in an update call")
        identifier = own_id(definition, named)
        values = {name: value for name, value in row.items() if name.lower() != "id"}
        writer.change(definition, identifier, values)
        return identifier, False

    return _done(call, writer, given, work, all_or_none=all_or_none)


def upsert(call: Call) -> Response:
    """PATCH /composite/sobjects/X/<external id field>."""
    given, all_or_none = _records(call)
    definition = known(call.org, str(call.parts["object"]))
    key = str(call.parts["field"])
    key_field(definition, key)
    twice = named_twice(_keyed(row, key) for row in given)
    writer = call.writer()

    def work(row: Row) -> tuple[str, bool]:
        value = _keyed(row, key)
        if value is None and key.lower() != "id":
            raise OrgError("MISSING_ARGUMENT", f"{key} not specified", fields=(key,))
        check_named_once(key, value, twice)
        values = {name: one for name, one in row.items() if name.lower() != key.lower()}
        return writer.upsert(definition, key, value, values)

    return _done(call, writer, given, work, all_or_none=all_or_none, upserted=True)


def _keyed(row: Row, key: str) -> Any:
    return next((one for name, one in row.items() if name.lower() == key.lower()), None)


def delete(call: Call) -> Response:
    """DELETE /composite/sobjects?ids=..."""
    given = [{"id": one.strip()} for one in call.param("ids").split(",")]
    all_or_none = call.params.get("allOrNone", "false").lower() == "true"
    writer = call.writer()

    def work(row: Row) -> tuple[str, bool]:
        identifier = identifiers.normalise(row["id"])
        definition = call.org.catalogue.by_prefix(identifier) if identifier else None
        if identifier is None or definition is None:
            raise malformed_id(row["id"])
        writer.remove(definition, identifier)
        return identifier, False

    return _done(call, writer, given, work, all_or_none=all_or_none)


def retrieve(call: Call) -> Response:
    """GET or POST /composite/sobjects/X: records by Id, null where there is none."""
    definition = known(call.org, str(call.parts["object"]))
    if call.method == "POST":
        body = call.json_object()
        wanted, names = list(body.get("ids") or ()), list(body.get("fields") or ())
    else:
        wanted, names = call.param("ids").split(","), call.param("fields").split(",")
    if len(wanted) > _MOST_RETRIEVED:
        raise OrgError("EXCEEDED_ID_LIMIT", f"at most {_MOST_RETRIEVED} records in one call")
    found: list[Row | None] = []
    for one in wanted:
        try:
            found.append(rows.fetched(call, definition, one, ",".join(names)))
        except OrgError as error:
            if error.status != 404:
                raise
            found.append(None)
    return answer(found)


def tree(call: Call) -> Response:
    """POST /composite/tree/X: parents with their children, all or none."""
    definition = known(call.org, str(call.parts["object"]))
    given, _ = _records(call)
    results: list[Row] = []
    try:
        with call.org.transaction():
            _plant(call, call.writer(), definition, given, results)
    except OrgError as error:
        if error.status >= 500:
            raise
        for request in call.trail:
            request.roll_back()
        reference = (given[len(results)] if len(results) < len(given) else {}).get("attributes", {})
        failed = {"referenceId": reference.get("referenceId"), "errors": [error.row()]}
        return answer({"hasErrors": True, "results": [failed]}, 400)
    return answer({"hasErrors": False, "results": results}, 201)


def _plant(
    call: Call,
    writer: Writer,
    definition: ObjectDefinition,
    given: list[Row],
    results: list[Row],
    *,
    parent: tuple[str, str] | None = None,
) -> None:
    for row in given:
        values = {name: one for name, one in row.items() if not _is_children(one)}
        if parent is not None:
            lookup = next((one for one in definition.fields if parent[0] in one.reference_to), None)
            if lookup is not None:
                values[lookup.name] = parent[1]
        identifier = writer.insert(definition, values)
        reference = (row.get("attributes") or {}).get("referenceId")
        results.append({"referenceId": reference, "id": identifier})
        for nested in row.values():
            if _is_children(nested):
                for child in nested["records"]:
                    kind = _kind(call, child)
                    _plant(
                        call, writer, kind, [child], results, parent=(definition.name, identifier)
                    )


def _is_children(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("records"), list)
