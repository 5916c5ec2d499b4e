"""Transactions that stay open: made now, stamped now, seen by nobody until they commit.

What a transaction does is kept aside and carried out at its commit, under the stamps of when it
was made. The records it touches are locked meanwhile, so that nothing can come between.

Belongs here: open transactions and their locks. Does not belong here: one write (org.py),
commit numbers (commits.py).
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.row_locks import unable_to_lock

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


class OpenTransaction:
    """One open transaction. Rules are checked at its commit, which then happens whole or not."""

    def __init__(self, org: "SandboxOrg", name: str) -> None:
        self._org = org
        self._acts: list[tuple[str, Callable[[], object]]] = []
        self.name = name
        self.begun = org.clock.stamp()

    def insert(self, object_name: str, values: Mapping[str, Any]) -> str:
        """Create a record; its Id is known at once, the record is not."""
        return self.insert_many(object_name, [values])[0]

    def insert_many(self, object_name: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Create records under one stamp; returns their Ids."""
        given = list(rows)
        prefix = self._org.catalogue.object(object_name).key_prefix
        first = self._org.store.take_numbers(prefix, len(given))
        made = [identifiers.make_id(prefix, first + place) for place in range(len(given))]
        whole = [{**row, "Id": own} for row, own in zip(given, made, strict=True)]
        self._note(partial(self._org.create_many, object_name, whole))
        return made

    def update(
        self, object_name: str, record_id: str, values: Mapping[str, Any], *, stamps: str = "all"
    ) -> None:
        """Change a record; `stamps` as in `SandboxOrg.update`."""
        self._lock(record_id)
        self._note(partial(self._org.update, object_name, record_id, values, stamps=stamps))

    def delete(self, object_name: str, record_id: str) -> None:
        """Put a record into the recycle bin."""
        self._lock(record_id)
        self._note(partial(self._org.delete, object_name, record_id))

    def undelete(self, object_name: str, record_id: str) -> None:
        """Bring a record back from the recycle bin."""
        self._lock(record_id)
        self._note(partial(self._org.undelete, object_name, record_id))

    def hard_delete(self, object_name: str, record_id: str) -> None:
        """Remove a record for good."""
        self._lock(record_id)
        self._note(partial(self._org.hard_delete, object_name, record_id))

    def commit(self) -> None:
        """Let everybody see it; a refused change undoes the whole transaction."""
        self._org.transactions.commit(self)

    def rollback(self) -> None:
        """Forget it."""
        self._org.transactions.end(self)

    def carry_out(self) -> None:
        """Do what was noted, each act under its own stamp; the caller holds the writer's lock."""
        for stamp, act in self._acts:
            with self._org.commits.made_at(stamp):
                act()

    def _note(self, act: Callable[[], object]) -> None:
        self._org.transactions.check_open(self)
        self._acts.append((self._org.clock.stamp(), act))

    def _lock(self, record_id: str) -> None:
        self._org.transactions.lock(self, identifiers.normalise(record_id) or record_id)


class Transactions:
    """The open transactions of an org, and which of them holds which record."""

    def __init__(self, org: "SandboxOrg") -> None:
        self._org = org
        self._mutex = threading.Lock()
        self._open: dict[str, OpenTransaction] = {}
        self._holders: dict[str, OpenTransaction] = {}
        self._made = 0

    def open(self) -> OpenTransaction:
        """Begin one."""
        with self._mutex:
            self._made += 1
            transaction = OpenTransaction(self._org, str(self._made))
            self._open[transaction.name] = transaction
        return transaction

    def find(self, name: str) -> OpenTransaction:
        """The open transaction of that name."""
        found = self._open.get(name)
        if found is None:
            raise OrgError("INVALID_INPUT", f"no open transaction {name}")
        return found

    def check_open(self, transaction: OpenTransaction) -> None:
        """Refuse to go on with one that has ended."""
        self.find(transaction.name)

    def earliest_begin(self) -> str | None:
        """When the oldest open one began: nothing later is certain to be complete."""
        with self._mutex:
            return min((one.begun for one in self._open.values()), default=None)

    def lock(self, transaction: OpenTransaction, record_id: str) -> None:
        """Keep a record for one transaction; UNABLE_TO_LOCK_ROW if another has it."""
        self.check_open(transaction)
        with self._mutex:
            if self._holders.setdefault(record_id, transaction) is not transaction:
                raise unable_to_lock(record_id)

    def check_free(self, record_id: str) -> None:
        """Refuse a write to a record that an open transaction holds."""
        if record_id in self._holders:
            raise unable_to_lock(record_id)

    def any_held(self) -> bool:
        """Whether anything is locked."""
        return bool(self._holders)

    def held(self) -> frozenset[str]:
        """The records that are locked."""
        with self._mutex:
            return frozenset(self._holders)

    def commit(self, transaction: OpenTransaction) -> None:
        """Carry a transaction out."""
        self.check_open(transaction)
        # The locks go only when nobody else can write any more, and before it writes itself.
        with self._org.commits.began(transaction.begun), self._org.transaction():
            self.end(transaction)
            transaction.carry_out()

    def end(self, transaction: OpenTransaction) -> None:
        """Give back what a transaction holds."""
        with self._mutex:
            self._open.pop(transaction.name, None)
            held = [key for key, holder in self._holders.items() if holder is transaction]
            for key in held:
                del self._holders[key]
