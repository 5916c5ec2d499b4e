"""Single records over REST: create, read, change, delete, upsert by an external Id.

Belongs here: what an API user may write, and one row's outcome. Does not belong here: many
rows in one call (collections.py), the rules all writers obey (writing.py).
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import features, identifiers
from crm_pipeline.sandbox.salesforce.calls import Call, Server, answer, nothing
from crm_pipeline.sandbox.salesforce.editing import own_id
from crm_pipeline.sandbox.salesforce.failures import (
    OrgError,
    entity_is_deleted,
    no_such_column,
    not_found,
)
from crm_pipeline.sandbox.salesforce.reading import Result, json_shape
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.soql_compiler import compile_soql
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.writing import not_writable

Row = dict[str, Any]


def known(server: Server, name: str) -> ObjectDefinition:
    """The object named in a path, as the API user sees it."""
    try:
        return server.org.catalogue.visible(name)
    except OrgError:
        raise not_found() from None


def permitted(
    server: Server, definition: ObjectDefinition, values: Mapping[str, Any], *, creating: bool
) -> Row:
    """The values an API user may write, with parents named by external Ids looked up."""
    kept: Row = {}
    refused: list[str] = []
    for name, value in values.items():
        if name == "attributes":
            continue
        field, given = definition.field(name), value
        if field is None:
            field, given = _by_relationship(server, definition, name, value)
        allowed = field.createable if creating else field.updateable
        if not allowed or not field.stored:
            refused.append(field.name)
        kept[field.name] = given
    if refused:
        raise not_writable(refused)
    return kept


def _by_relationship(
    server: Server, definition: ObjectDefinition, name: str, value: Any
) -> tuple[FieldDefinition, Any]:
    for field in definition.fields:
        if (field.relationship_name or "").lower() == name.lower() and isinstance(value, dict):
            parent = server.org.catalogue.visible(field.reference_to[0])
            keys = [one for one in value if one != "attributes"]
            if len(keys) != 1:
                break
            found = matching(server, parent, keys[0], value[keys[0]])
            if len(found) != 1:
                raise OrgError(
                    "INVALID_FIELD",
                    f"Foreign key external ID: {value[keys[0]]} not found for field {keys[0]} "
                    f"in entity {parent.name}",
                )
            return field, found[0]
    raise no_such_column(name, definition.name)


def matching(server: Server, definition: ObjectDefinition, name: str, value: Any) -> list[str]:
    """The living records with this value in an external Id field."""
    field = definition.field(name)
    if field is None:
        raise no_such_column(name, definition.name)
    if not (field.external_id or field.type == "id"):
        raise OrgError(
            "INVALID_FIELD",
            f"Field name provided, {name} is not an External ID or indexed field "
            f"for {definition.name}",
        )
    alive = " AND IsDeleted = 'false'" if definition.soft_delete else ""
    folding = "" if field.case_sensitive or field.type == "id" else " COLLATE NOCASE"
    wanted = identifiers.normalise(value) if field.type == "id" else str(value)
    rows = server.org.store.reader().execute(
        f"SELECT Id FROM {quoted(definition.name)} "
        f"WHERE {quoted(field.name)}{folding} = ?{alive} ORDER BY Id",
        (wanted,),
    )
    return [row[0] for row in rows]


def insert(server: Server, definition: ObjectDefinition, values: Mapping[str, Any]) -> str:
    """Create one record for an API user."""
    if not definition.createable:
        raise OrgError(
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
            f"entity type cannot be inserted: {definition.label}",
        )
    server.faults.check_row(definition.name, "", values)
    return server.org.create(definition.name, permitted(server, definition, values, creating=True))


def change(
    server: Server, definition: ObjectDefinition, record_id: str, values: Mapping[str, Any]
) -> None:
    """Change one record for an API user; a converted lead is read only."""
    server.faults.check_row(definition.name, record_id, values)
    server.org.sharing.check(definition, record_id)
    features.check_not_twin(server.org, definition, record_id)
    kept = permitted(server, definition, values, creating=False)
    current = server.org.get("Lead", record_id) if definition.name == "Lead" else None
    if current is not None and current.get("IsConverted"):
        raise OrgError("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
    server.org.update(definition.name, record_id, kept)


def upsert(
    server: Server,
    definition: ObjectDefinition,
    key: str,
    value: Any,
    values: Mapping[str, Any],
) -> tuple[str, bool]:
    """Create or change the record with this external Id; returns its Id and whether it is new.

    Several matches are answered with 300 and nothing is written.
    """
    found = matching(server, definition, key, value)
    if len(found) > 1:
        raise OrgError(
            "DUPLICATE_EXTERNAL_ID",
            f"{key}: more than one record found for external id field: [{', '.join(found)}]",
            fields=(key,),
            status=300,
        )
    if found:
        change(server, definition, found[0], values)
        return found[0], False
    if definition.field(key) is not None and key.lower() != "id":
        values = {**values, key: value}
    return insert(server, definition, values), True


def create(call: Call) -> Response:
    """POST /sobjects/X."""
    definition = known(call.server, str(call.parts["object"]))
    identifier = insert(call.server, definition, call.json_object())
    return answer(
        {"id": identifier, "success": True, "errors": []},
        201,
        {"Location": f"{call.root}/sobjects/{definition.name}/{identifier}"},
    )


def read(call: Call) -> Response:
    """GET /sobjects/X/<id>, all fields or those of `fields=`."""
    definition = known(call.server, str(call.parts["object"]))
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
    definition = known(call.server, str(call.parts["object"]))
    identifier = own_id(definition, call.parts["id"])
    change(call.server, definition, identifier, call.json_object())
    return nothing()


def delete(call: Call) -> Response:
    """DELETE /sobjects/X/<id>."""
    definition = known(call.server, str(call.parts["object"]))
    identifier = own_id(definition, call.parts["id"])
    remove(call.server, definition, identifier)
    return nothing()


def remove(server: Server, definition: ObjectDefinition, record_id: str) -> None:
    """Delete one record for an API user."""
    server.faults.check_row(definition.name, record_id, {})
    server.org.sharing.check(definition, record_id)
    server.org.delete(definition.name, record_id)


def by_key(call: Call) -> Response:
    """GET, PATCH, POST, DELETE of /sobjects/X/<external id field>/<value>."""
    definition = known(call.server, str(call.parts["object"]))
    key, value = str(call.parts["field"]), str(call.parts["value"])
    if call.method in {"PATCH", "POST"}:
        try:
            identifier, created = upsert(call.server, definition, key, value, call.json_object())
        except OrgError as error:
            if error.status != 300:
                raise
            found = matching(call.server, definition, key, value)
            urls = [f"{call.root}/sobjects/{definition.name}/{one}" for one in found]
            return answer(urls, 300)
        body = {"id": identifier, "success": True, "errors": [], "created": created}
        return answer(body, 201 if created else 200)
    found = matching(call.server, definition, key, value)
    if not found:
        raise not_found()
    if call.method == "DELETE":
        remove(call.server, definition, found[0])
        return nothing()
    return answer(fetched(call, definition, found[0], call.params.get("fields")))
