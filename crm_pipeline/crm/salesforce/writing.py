"""Writing a few records: collections of up to 200, and what each of them came to.

Belongs here: the requests and the reading of their answers. Does not belong here: Bulk (ingest.py),
what a refusal means (write_failures.py), whether and when to send again (writeback/).

Ids and keys stand in bodies, never in an address: an external id may be `.inc`, `/` or `?`. No
request is repeated by itself: whoever gets no answer asks what became of the records first.

Sources: REST API guide "sObject Collections" (200 records a call, an outcome for each under HTTP
200, 2,000 for retrieve by POST), "Assignment Rule Header" (left out, the default rule of leads and
cases runs), "Duplicate Rule Header".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from crm_pipeline.config.names import printable
from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce.failures import Concern, not_json
from crm_pipeline.crm.salesforce.identifiers import full_id
from crm_pipeline.crm.salesforce.json_rows import decoded
from crm_pipeline.crm.salesforce.rest import RestQueries
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.write_failures import outcome_of, refused_row
from crm_pipeline.crm.salesforce.written_values import Unfit, as_body, holds, written
from crm_pipeline.errors import PermanentError, TransientError
from crm_pipeline.model.objects import CrmObject, ValueType
from crm_pipeline.model.writeback import (
    OnDuplicate,
    Operation,
    Outcome,
    Value,
    Verdict,
    Whereabouts,
    WriteBatch,
    WriteOptions,
    WriteRow,
)

MOST_ROWS = 200
MOST_RETRIEVED = 2_000
PARENT_FIELDS = ("AccountId", "CampaignId", "ContactId", "WhatId", "WhoId")
"""Where a child names the record that Salesforce locks together with it."""

_MOST_ASKED = 200


class RecordWriter:
    """Sends collections over one session; safe from several threads."""

    def __init__(self, session: SalesforceSession, version_path: str) -> None:
        self._session = session
        self._path = f"{version_path}/composite/sobjects"
        self._version_path = version_path

    def write(self, batch: WriteBatch) -> tuple[Outcome, ...]:
        """Send a batch; an outcome per row, in order.

        Raises:
            FailedMidway: Salesforce failed over it, perhaps because of one record.
            TransientError: no answer came, or none that can be read; part of it may be written.
            NotAccepted: nothing was written.
            PermanentError: Salesforce refuses the request as a whole; nothing was written.
        """
        name = batch.crm_object.name
        records = [self._record(batch, row) for row in batch.rows]
        body = as_body({"allOrNone": False, "records": records})
        path = self._path
        if batch.operation is not Operation.UPDATE:
            path = f"{path}/{name}/{batch.external_id_field}"
        answer = self._session.request(
            "PATCH",
            path,
            data=body.encode(),
            headers={"Content-Type": "application/json", **headers_of(batch.options)},
            repeatable=False,
            concern=Concern(name),
        )
        entries = decoded(answer.content)
        if not isinstance(entries, list) or len(entries) != len(batch.rows):
            raise not_json(self._session.instance_url)
        return tuple(
            outcome_of(entry) if isinstance(entry, Mapping) else _unreadable() for entry in entries
        )

    def retrieve(
        self, crm_object: CrmObject, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, Mapping[str, Value]]:
        """What records hold now, by id; records that are not there are left out."""
        found: dict[str, Mapping[str, Value]] = {}
        for start in range(0, len(ids), MOST_RETRIEVED):
            chunk = list(ids[start : start + MOST_RETRIEVED])
            answer = self._session.request(
                "POST",
                f"{self._path}/{crm_object.name}",
                json={"ids": chunk, "fields": sorted({crm_object.id_field, *fields})},
                repeatable=True,
                concern=Concern(crm_object.name),
            )
            entries = decoded(answer.content)
            if not isinstance(entries, list):
                raise not_json(self._session.instance_url)
            for entry in entries:
                if isinstance(entry, Mapping):
                    record_id = full_id(str(entry[crm_object.id_field]))
                    found[record_id] = {name: entry.get(name) for name in fields}
        return found

    def whereabouts(self, crm_object: CrmObject, ids: Sequence[str]) -> dict[str, Whereabouts]:
        """What became of records, those in the recycle bin included."""
        asked = (crm_object.merged_into_field, crm_object.converted_into_field)
        names = [name for name in asked if name is not None]
        if not names:
            return {}
        found: dict[str, Whereabouts] = {}
        for start in range(0, len(ids), _MOST_ASKED):
            request = ReadRequest(
                crm_object,
                (crm_object.id_field, *names),
                record_ids=tuple(map(full_id, ids[start : start + _MOST_ASKED])),
            )
            answer = RestQueries(self._session, self._version_path, request).begin()
            for entry in answer.records:
                found[full_id(str(entry[crm_object.id_field]))] = _whereabouts(crm_object, entry)
        return found

    def _record(self, batch: WriteBatch, row: WriteRow) -> dict[str, object]:
        crm_object = batch.crm_object
        record: dict[str, object] = {"attributes": {"type": crm_object.name}}
        if batch.operation is Operation.UPDATE:
            record[crm_object.id_field] = row.record_id
        else:
            record[batch.external_id_field or ""] = row.external_id
        for name, value in row.values.items():
            field = crm_object.find(name)
            if field is None or field.value_type is None:
                raise PermanentError(f"{crm_object.name} has no field {printable(name)}.")
            try:
                record[field.name] = written(field, value)
            except Unfit:
                raise PermanentError(
                    f"A value for {crm_object.name}.{field.name} is not of the field's type."
                ) from None
        return record


def refusal_of(
    crm_object: CrmObject, operation: Operation, name: str, value: Value
) -> Outcome | None:
    """Why a field cannot be given a value, as far as describe tells; None when it can."""
    field = crm_object.find(name)
    if field is None or field.value_type is None:
        return _refused("INVALID_FIELD", name)
    creates = operation is not Operation.UPDATE
    if not (field.is_updateable or (creates and field.is_createable)):
        return _refused("INVALID_FIELD_FOR_INSERT_UPDATE", name)
    try:
        form = written(field, value)
    except Unfit:
        return _refused("INVALID_TYPE_ON_FIELD_IN_RECORD", name)
    if (
        isinstance(form, str)
        and field.value_type is ValueType.TEXT
        and 0 < field.length < len(form)
    ):
        return _refused("STRING_TOO_LONG", name)
    return None


def key_refusal(crm_object: CrmObject, field_name: str) -> Outcome | None:
    """Why records cannot be found by a key field; None when they can.

    A key that is not unique cannot tell one record from two, and Salesforce then writes neither.
    """
    field = crm_object.find(field_name)
    if field is not None and field.is_external_id and field.is_unique and field.is_createable:
        return None
    return Outcome(
        Verdict.PARK,
        code="NO_KEY_FIELD",
        reason="The key field does not exist for our user, or is not a unique external id.",
        remedy=(
            f"Create the text field {printable(field_name)} on {crm_object.name} as External ID and"
            " Unique, let the integration user edit it, then requeue."
        ),
    )


def same_value(crm_object: CrmObject, name: str, ours: Value, theirs: Value) -> bool:
    """Whether what the CRM holds is what was written."""
    field = crm_object.find(name)
    return field is not None and holds(field, ours, theirs)


def headers_of(options: WriteOptions) -> dict[str, str]:
    """The headers by which a request says how Salesforce's rules shall treat it.

    Assignment is always said: left out, the active rule would hand updated leads to other owners.
    """
    assignment = {"none": "FALSE", "default": "TRUE"}.get(options.assignment, options.assignment)
    headers = {"Sforce-Auto-Assign": assignment}
    if options.on_duplicate is OnDuplicate.ALLOW:
        headers["Sforce-Duplicate-Rule-Header"] = "allowSave=true"
    return headers


def _refused(code: str, field_name: str) -> Outcome:
    return refused_row(code, fields=(field_name,))


def _unreadable() -> Outcome:
    raise TransientError("Salesforce answered a write with something that is no outcome.")


def _whereabouts(crm_object: CrmObject, entry: Mapping[str, Any]) -> Whereabouts:
    merged = crm_object.merged_into_field and entry.get(crm_object.merged_into_field)
    converted = crm_object.converted_into_field and entry.get(crm_object.converted_into_field)
    return Whereabouts(
        merged_into=full_id(str(merged)) if merged else None,
        converted_into=("Contact", full_id(str(converted))) if converted else None,
    )
