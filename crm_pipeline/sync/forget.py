"""Forgetting a person: everything here that tells of one, found, shown and removed.

No list of the forgotten is kept, for it would remember them. What is gone from the CRM does not
come back, because every read asks the CRM; what it still holds does, and that is said beforehand.

Belongs here: the order of things, and the question to the CRM. Does not belong here: statements
(warehouse/erasure.py) and how it is shown (cli/forget.py).
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import psycopg

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, ReadRequest
from crm_pipeline.errors import FieldUnavailable, ObjectUnavailable, UsageError
from crm_pipeline.model.filters import All, Any, Comparator, Comparison, RecordFilter
from crm_pipeline.model.objects import ObjectSelection
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sync.selection import select_object
from crm_pipeline.warehouse.connection import EVENTS_SCHEMA, Warehouse
from crm_pipeline.warehouse.erasure import Person, Search, Trace
from crm_pipeline.warehouse.lease import WRITE_BACK_LEASE, held_lease
from crm_pipeline.warehouse.ledger import known_objects

MOST_IDS_ASKED_FOR = 200


@dataclass(frozen=True, slots=True)
class Found:
    """What is here of a person.

    Attributes:
        person: with every record id that belongs to the address.
        half_read: attempts that have to begin anew, because their staging holds her.
    """

    person: Person
    traces: tuple[Trace, ...]
    half_read: tuple[int, ...]

    @property
    def is_nothing(self) -> bool:
        """Whether nothing would be removed."""
        return not any(trace.is_removed for trace in self.traces)


def person_named(words: str, record_id: str | None, connector: CrmConnector | None) -> Person:
    """The person that a command line names: an address, or an object and an id.

    Raises:
        UsageError: it names neither.
    """
    if record_id is not None:
        full = record_id if connector is None else connector.full_id(record_id)
        return Person(record_ids=frozenset({full}))
    address = words.strip().lower()
    if "@" not in address:
        raise UsageError("Name an e-mail address, or an object and the id of one of its records.")
    return Person(address=address)


def find_person(warehouse: Warehouse, settings: Settings, person: Person) -> Found:
    """Everything that is here of a person; changes nothing."""
    with warehouse.connect() as connection:
        search = search_of(connection, warehouse, settings)
        whole = search.completed(person)
        return Found(whole, search.traces(whole), search.half_read(whole))


def forget_person(warehouse: Warehouse, settings: Settings, person: Person) -> Found:
    """Remove it, whole or not at all, while no sync of any object is at work.

    Returns:
        What was there.

    Raises:
        LeaseBusy: a sync is at work and could bring the person back.
        TransientError: one record is being synced by hand.
    """
    owner = f"forget {uuid4().hex[:8]}"
    with ExitStack() as stack:
        leases = [
            stack.enter_context(held_lease(warehouse, name, owner=owner, mode=SyncMode.RECORD))
            for name in (*known_objects(warehouse), WRITE_BACK_LEASE)
        ]
        connection = stack.enter_context(warehouse.connect())
        search = search_of(connection, warehouse, settings)
        whole = search.completed(person)
        found = Found(whole, search.traces(whole), search.half_read(whole))
        search.drop_half_read(found.half_read)
        search.erase(whole)
        for lease in leases:
            lease.prove(connection)
    return found


def still_in_crm(settings: Settings, connector: CrmConnector, person: Person) -> Mapping[str, int]:
    """How many records the CRM still holds of a person, by object: a sync brings them back.

    Raises:
        CrmPipelineError: the CRM does not answer.
    """
    held: dict[str, int] = {}
    for name in settings.enabled_objects:
        try:
            selection, _ = select_object(settings, connector, name)
        except (FieldUnavailable, ObjectUnavailable):
            continue  # what we may not read, no sync brings back
        condition = _about(selection, person)
        if condition is None:
            continue
        request = ReadRequest(
            selection.crm_object,
            (selection.crm_object.id_field,),
            condition,
            include_deleted=False,
        )
        if count := connector.count(request):
            held[name] = count
    return held


def _about(selection: ObjectSelection, person: Person) -> RecordFilter | None:
    """Records about the person among those that the settings select."""
    parts: list[RecordFilter] = []
    if person.record_ids:
        ids = tuple(sorted(person.record_ids)[:MOST_IDS_ASKED_FOR])
        parts.append(Comparison(selection.crm_object.id_field, Comparator.IN, ids))
    if person.address is not None:
        parts += [
            Comparison(mapped.field.name, Comparator.EQUAL, person.address)
            for mapped in selection.columns
            if mapped.field.native_type == "email" and mapped.field.is_filterable
        ]
    if not parts:
        return None
    chosen = [] if selection.record_filter is None else [selection.record_filter]
    return All((Any(tuple(parts)), *chosen))


def search_of(connection: psycopg.Connection, warehouse: Warehouse, settings: Settings) -> Search:
    """A search of every schema in which people stand."""
    marts = settings.marketing.target_schema
    memory = f"{marts}_staging"
    return Search(connection, (warehouse.crm_schema, marts, memory, EVENTS_SCHEMA), memory)
