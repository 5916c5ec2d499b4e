"""Many records in one call: collections of up to 200, trees, sub-requests.

Belongs here: per-row outcomes and all-or-none. Does not belong here: one row (rows.py).
"""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import identifiers, rows
from crm_pipeline.sandbox.salesforce.calls import Call, answer
from crm_pipeline.sandbox.salesforce.editing import own_id
from crm_pipeline.sandbox.salesforce.failures import OrgError, malformed_id
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition

Row = dict[str, Any]
_MOST = 200
_MOST_RETRIEVED = 2_000
_ROLLED_BACK = OrgError(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using "
    "AllOrNone header",
)
Work = Callable[[Row], Row]


class _RolledBack(Exception):
    def __init__(self, outcomes: list[Row]) -> None:
        super().__init__()
        self.outcomes = outcomes


def _each(call: Call, given: list[Row], work: Work, *, all_or_none: bool) -> list[Row]:
    """Do each row; with all-or-none one refusal takes the others back."""
    if len(given) > _MOST:
        raise OrgError(
            "EXCEEDED_ID_LIMIT",
            f"record limit reached. cannot submit more than {_MOST} records into this call",
        )
    if not all_or_none:
        with call.org.transaction():
            return [_outcome(call, one, work) for one in given]
    try:
        with call.org.transaction():
            outcomes = [_outcome(call, one, work) for one in given]
            if not all(one["success"] for one in outcomes):
                raise _RolledBack(outcomes)
            return outcomes
    except _RolledBack as rolled_back:
        return [
            {"success": False, "errors": [_ROLLED_BACK.row()]} if one["success"] else one
            for one in rolled_back.outcomes
        ]


def _outcome(call: Call, row: Row, work: Work) -> Row:
    try:
        with call.org.transaction():
            return work(row)
    except OrgError as error:
        return {"success": False, "errors": [error.row()]}


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

    def work(row: Row) -> Row:
        identifier = rows.insert(call.server, _kind(call, row), row)
        return {"id": identifier, "success": True, "errors": []}

    return answer(_each(call, given, work, all_or_none=all_or_none))


def update(call: Call) -> Response:
    """PATCH /composite/sobjects."""
    given, all_or_none = _records(call)

    def work(row: Row) -> Row:
        definition = _kind(call, row)
        named = next((value for name, value in row.items() if name.lower() == "id"), None)
        if named is None:
            raise OrgError("MISSING_ARGUMENT", "Id not specified in an update call")
        identifier = own_id(definition, named)
        values = {name: value for name, value in row.items() if name.lower() != "id"}
        rows.change(call.server, definition, identifier, values)
        return {"id": identifier, "success": True, "errors": []}

    return answer(_each(call, given, work, all_or_none=all_or_none))


def upsert(call: Call) -> Response:
    """PATCH /composite/sobjects/X/<external id field>."""
    given, all_or_none = _records(call)
    definition = rows.known(call.server, str(call.parts["object"]))
    key = str(call.parts["field"])

    def work(row: Row) -> Row:
        value = next((one for name, one in row.items() if name.lower() == key.lower()), None)
        if value is None:
            raise OrgError("MISSING_ARGUMENT", f"{key} not specified", fields=(key,))
        values = {name: one for name, one in row.items() if name.lower() != key.lower()}
        identifier, created = rows.upsert(call.server, definition, key, value, values)
        return {"id": identifier, "success": True, "errors": [], "created": created}

    return answer(_each(call, given, work, all_or_none=all_or_none))


def delete(call: Call) -> Response:
    """DELETE /composite/sobjects?ids=..."""
    given = [{"id": one.strip()} for one in call.param("ids").split(",")]
    all_or_none = call.params.get("allOrNone", "false").lower() == "true"

    def work(row: Row) -> Row:
        identifier = identifiers.normalise(row["id"])
        definition = call.org.catalogue.by_prefix(identifier) if identifier else None
        if identifier is None or definition is None:
            raise malformed_id(row["id"])
        rows.remove(call.server, definition, identifier)
        return {"id": identifier, "success": True, "errors": []}

    return answer(_each(call, given, work, all_or_none=all_or_none))


def retrieve(call: Call) -> Response:
    """GET or POST /composite/sobjects/X: records by Id, null where there is none."""
    definition = rows.known(call.server, str(call.parts["object"]))
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
    definition = rows.known(call.server, str(call.parts["object"]))
    given, _ = _records(call)
    results: list[Row] = []
    try:
        with call.org.transaction():
            _plant(call, definition, given, results, None)
    except OrgError as error:
        reference = (given[len(results)] if len(results) < len(given) else {}).get("attributes", {})
        failed = {"referenceId": reference.get("referenceId"), "errors": [error.row()]}
        return answer({"hasErrors": True, "results": [failed]}, 400)
    return answer({"hasErrors": False, "results": results}, 201)


def _plant(
    call: Call,
    definition: ObjectDefinition,
    given: list[Row],
    results: list[Row],
    parent: tuple[str, str] | None,
) -> None:
    for row in given:
        values = {name: one for name, one in row.items() if not _is_children(one)}
        if parent is not None:
            lookup = next((one for one in definition.fields if parent[0] in one.reference_to), None)
            if lookup is not None:
                values[lookup.name] = parent[1]
        identifier = rows.insert(call.server, definition, values)
        reference = (row.get("attributes") or {}).get("referenceId")
        results.append({"referenceId": reference, "id": identifier})
        for nested in row.values():
            if _is_children(nested):
                for child in nested["records"]:
                    kind = _kind(call, child)
                    _plant(call, kind, [child], results, (definition.name, identifier))


def _is_children(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("records"), list)
