"""Duplicates as a duplicate rule finds them, and the refusal that names them.

Belongs here: matching by equal values, the body of DUPLICATES_DETECTED. Does not belong here:
unique fields (writing.py), which rules there are (rules.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.rules import Written
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


@dataclass(frozen=True, slots=True)
class Found:
    """A record that is the same by a rule."""

    object_name: str
    id: str
    values: dict[str, Any]


def same(
    org: "SandboxOrg", written: Written, names: Sequence[str], object_name: str
) -> list[Found]:
    """The living records of an object that have the written record's values in these fields."""
    other = org.catalogue.object(object_name)
    mine = org.get(written.definition.name, written.record_id) or {}
    wheres, values = ["Id != ?"], [written.record_id]
    for name in names:
        field = other.field(name)
        if field is None or mine.get(name) is None:
            return []  # nobody is a duplicate by an empty value
        wheres.append(f"{quoted(field.name)} COLLATE NOCASE = ?")
        values.append(str(mine[name]))
    if other.soft_delete:
        wheres.append("IsDeleted = 'false'")
    rows = org.store.reader().execute(
        f"SELECT Id FROM {quoted(other.name)} WHERE {' AND '.join(wheres)} ORDER BY Id", values
    )
    return [Found(other.name, row[0], {name: mine[name] for name in names}) for row in rows]


def duplicate_refusal(
    written: Written, found: Sequence[Found], rule: str, message: str, *, block: bool
) -> OrgError:
    """DUPLICATES_DETECTED, with the records that are meant."""
    details = written.options.record_details
    return OrgError(
        "DUPLICATES_DETECTED",
        message,
        duplicates={
            "allowSave": not block,
            "duplicateRule": rule,
            "duplicateRuleEntityType": written.definition.name,
            "errorMessage": message,
            "matchResults": [
                _match([one for one in found if one.object_name == name], details=details)
                for name in dict.fromkeys(one.object_name for one in found)
            ],
        },
    )


def _match(found: Sequence[Found], *, details: bool) -> dict[str, Any]:
    name = found[0].object_name
    return {
        "entityType": name,
        "errors": [],
        "matchEngine": "ExactMatchEngine",
        "matchRecords": [
            {
                "additionalInformation": [],
                "fieldDiffs": [],
                "matchConfidence": 100.0,
                "record": {
                    "attributes": {
                        "type": name,
                        "url": f"/services/data/v60.0/sobjects/{name}/{one.id}",
                    },
                    "Id": one.id,
                    **(one.values if details else {}),
                },
            }
            for one in found
        ],
        "rule": f"Standard_{name}_Match_Rule_v1_0",
        "size": len(found),
        "success": True,
    }
