"""Single records over REST: create, read, change, delete, upsert by an external Id.

Belongs here: the handlers of one record. Does not belong here: many rows in one call
(composites.py), what a write goes through (writer.py).
"""

from typing import Any

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import conditional
from crm_pipeline.sandbox.salesforce.calls import Call, answer, nothing
from crm_pipeline.sandbox.salesforce.editing import own_id
from crm_pipeline.sandbox.salesforce.failures import OrgError, entity_is_deleted, not_found
from crm_pipeline.sandbox.salesforce.reading import Result, json_shape
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.soql_compiler import compile_soql
from crm_pipeline.sandbox.salesforce.writable import known, matching

Row = dict[str, Any]
_LIKE_A_FILE = ".inc"  # Salesforce takes the end of such an address for a file's


def create(call: Call) -> Response:
    """POST /sobjects/X."""
    definition = known(call.org, str(call.parts["object"]))
    identifier = call.writer().insert(definition, call.json_object())
    return answer(
        {"id": identifier, "success": True, "errors": []},
        201,
        {"Location": f"{call.root}/sobjects/{definition.name}/{identifier}"},
    )


def read(call: Call) -> Response:
    """GET /sobjects/X/<id>, all fields or those of `fields=`."""
    definition = known(call.org, str(call.parts["object"]))
    if stopped := conditional.stopped(call, definition, str(call.parts["id"])):
        return stopped
    return answer(fetched(call, definition, str(call.parts["id"]), call.params.get("fields")))


def fetched(call: Call, definition: ObjectDefinition, given: object, names: str | None) -> Row:
    """One living record in JSON form."""
    identifier = own_id(definition, given)
    wanted = names or ",".join(one.name for one in definition.fields)
    compiled = compile_soql(
        call.org,
        f"SELECT {wanted} FROM {definition.name} WHERE Id = '{identifier}'",
        include_deleted=True,
        as_user=True,
    )
    found = Result(call.org, compiled).page(range(1), json_shape(call.org, compiled, call.root))
    if not found:
        raise not_found(
            f"Provided external ID field does not exist or is not accessible: {identifier}"
        )
    stored = call.org.get(definition.name, identifier)
    if stored is not None and stored.get("IsDeleted"):
        raise entity_is_deleted()
    return found[0]


def update(call: Call) -> Response:
    """PATCH /sobjects/X/<id>."""
    definition = known(call.org, str(call.parts["object"]))
    identifier = own_id(definition, call.parts["id"])
    values = call.json_object()
    _check_not_named(values, "Id")
    if stopped := conditional.stopped(call, definition, identifier):
        return stopped
    call.writer().change(definition, identifier, values)
    return nothing()


def _check_not_named(values: Row, key: str) -> None:
    """Refuse a body that repeats what the address says."""
    if any(name.lower() == key.lower() for name in values):
        raise OrgError(
            "INVALID_FIELD", f"The {key} field should not be specified in the sobject data."
        )


def delete(call: Call) -> Response:
    """DELETE /sobjects/X/<id>."""
    definition = known(call.org, str(call.parts["object"]))
    identifier = own_id(definition, call.parts["id"])
    call.writer().remove(definition, identifier)
    return nothing()


def by_key(call: Call) -> Response:
    """GET, PATCH, POST, DELETE of /sobjects/X/<external id field>/<value>."""
    definition = known(call.org, str(call.parts["object"]))
    key, value = str(call.parts["field"]), str(call.parts["value"])
    if value.lower().endswith(_LIKE_A_FILE):
        raise not_found()
    if call.method in {"PATCH", "POST"}:
        return _upserted(call, definition, key, value)
    found = matching(call.org, definition, key, value)
    if not found:
        raise not_found()
    if call.method == "DELETE":
        call.writer().remove(definition, found[0])
        return nothing()
    if len(found) > 1:
        return _choices(call, definition, found)
    return answer(fetched(call, definition, found[0], call.params.get("fields")))


def _upserted(call: Call, definition: ObjectDefinition, key: str, value: str) -> Response:
    values = call.json_object()
    _check_not_named(values, key)
    found = matching(call.org, definition, key, value)
    if len(found) == 1 and (stopped := conditional.stopped(call, definition, found[0])):
        return stopped
    only = call.params.get("updateOnly", "").lower() == "true"
    try:
        identifier, created = call.writer().upsert(definition, key, value, values, update_only=only)
    except OrgError as error:
        if error.status != 300:
            raise
        return _choices(call, definition, found)
    body = {"id": identifier, "success": True, "errors": [], "created": created}
    location = {"Location": f"{call.root}/sobjects/{definition.name}/{identifier}"}
    return answer(body, 201 if created else 200, location if created else None)


def _choices(call: Call, definition: ObjectDefinition, found: list[str]) -> Response:
    """300: the addresses of the records that an external id means."""
    return answer([f"{call.root}/sobjects/{definition.name}/{one}" for one in found], 300)
