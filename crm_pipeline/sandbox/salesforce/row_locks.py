"""Row locks of requests whose answer is still under way: their records and the parents of these.

Salesforce locks the parent of a record that is written, so that two children of one account,
written at once, get in each other's way.

Belongs here: who holds what. Does not belong here: transactions that stay open (transactions.py).
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition


class RowLocks:
    """The locks of a server, by the number of the request that holds them."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holders: dict[str, int] = {}

    @property
    def busy(self) -> bool:
        """Whether anything is locked at all."""
        return bool(self._holders)

    def check(self, ids: Iterable[str], owner: int) -> None:
        """Refuse what another request holds."""
        for one in ids:
            if self._holders.get(one, owner) != owner:
                raise unable_to_lock(one)

    def take(self, ids: Iterable[str], owner: int) -> None:
        """Hold these until the request's answer is out."""
        with self._mutex:
            self._holders.update(dict.fromkeys(ids, owner))

    def release(self, owner: int) -> None:
        """The answer is out."""
        if not self._holders:
            return
        with self._mutex:
            self._holders = {one: who for one, who in self._holders.items() if who != owner}


def locked_with(definition: ObjectDefinition, *rows: Mapping[str, Any]) -> set[str]:
    """The parents that a write locks: those that the given values and the present record name."""
    found: set[str] = set()
    for field in definition.fields:
        if is_parent(field):
            for row in rows:
                identifier = identifiers.normalise(row.get(field.name))
                if identifier is not None:
                    found.add(identifier)
    return found


def is_parent(field: FieldDefinition) -> bool:
    """Whether a lookup locks what it points to: owners and record types are not locked."""
    return field.type == "reference" and not {"User", "RecordType"} & set(field.reference_to)


def unable_to_lock(record_id: str) -> OrgError:
    """A record that somebody else holds."""
    return OrgError(
        "UNABLE_TO_LOCK_ROW",
        f"unable to obtain exclusive access to this record or 1 records: {record_id}",
    )
