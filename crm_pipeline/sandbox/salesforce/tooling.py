"""The Tooling API: custom fields made and deleted, and the tables that tell which there are.

Belongs here: the handlers below /tooling. Does not belong here: what a field is made of
(field_types.py), the tables (tooling_objects.py).
"""

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce import rest
from crm_pipeline.sandbox.salesforce.calls import Call, answer, nothing
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.field_types import field_of, metadata_of


def query(call: Call) -> Response:
    """GET /tooling/query."""
    return rest.answered(call, call.server.tooling.org(), f"{call.root}/tooling")


def query_more(call: Call) -> Response:
    """GET /tooling/query/<locator>."""
    return rest.continued(call, f"{call.root}/tooling")


def create(call: Call) -> Response:
    """POST /tooling/sobjects/CustomField."""
    _check_allowed(call)
    body = call.json_object()
    metadata, full_name = body.get("Metadata"), str(body.get("FullName") or "")
    if not isinstance(metadata, dict) or "." not in full_name:
        raise OrgError(
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [FullName, Metadata]",
            fields=("FullName", "Metadata"),
        )
    identifier = call.org.custom_fields.create(full_name, metadata)
    return answer(
        {"id": identifier, "success": True, "errors": [], "warnings": [], "infos": []}, 201
    )


def read(call: Call) -> Response:
    """GET /tooling/sobjects/CustomField/<id>."""
    definition, field = call.org.custom_fields.find(str(call.parts["id"]))
    identifier = call.org.custom_fields.id_of(definition.name, field.name)
    return answer(
        {
            "attributes": {
                "type": "CustomField",
                "url": f"{call.root}/tooling/sobjects/CustomField/{identifier}",
            },
            "Id": identifier,
            "TableEnumOrId": definition.name,
            "DeveloperName": field.name.removesuffix("__c"),
            "NamespacePrefix": None,
            "ManageableState": "unmanaged",
            "FullName": f"{definition.name}.{field.name}",
            "Metadata": metadata_of(field),
        }
    )


def update(call: Call) -> Response:
    """PATCH /tooling/sobjects/CustomField/<id>: other metadata for the field."""
    _check_allowed(call)
    definition, field = call.org.custom_fields.find(str(call.parts["id"]))
    made = field_of(field.name, {**metadata_of(field), **(call.json_object()["Metadata"] or {})})
    facts = {name: getattr(made, name) for name in _CHANGEABLE}
    call.org.retype_field(definition.name, field.name, **facts)
    return nothing()


_CHANGEABLE = (
    "external_id",
    "help_text",
    "label",
    "length",
    "nillable",
    "picklist_values",
    "precision",
    "scale",
    "type",
    "unique",
)


def delete(call: Call) -> Response:
    """DELETE /tooling/sobjects/CustomField/<id>: into the bin, its name still taken."""
    _check_allowed(call)
    definition, field = call.org.custom_fields.find(str(call.parts["id"]))
    call.org.custom_fields.delete(definition.name, field.name)
    return nothing()


def _check_allowed(call: Call) -> None:
    if not call.server.settings.customize_application:
        raise OrgError(
            "INSUFFICIENT_ACCESS",
            "insufficient access rights: you need the permission Customize Application",
            status=403,
        )
