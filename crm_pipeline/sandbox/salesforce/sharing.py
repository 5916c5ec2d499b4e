"""Which records the API user does not see: single ones, or all that a rule finds.

No stamp moves when a record is hidden or comes to light again, as in the real org. Nothing of
it is kept: an org that is opened again shows everything.

Belongs here: visibility of records. Does not belong here: fields and objects (catalogue.py).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crm_pipeline.sandbox.salesforce.editing import own_id
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.soql_compiler import compile_soql
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Filter = tuple[str, tuple[object, ...]]


class Sharing:
    """What is hidden from the API user; an administrator sees everything."""

    def __init__(self, org: "SandboxOrg") -> None:
        self._org = org
        self._single: set[str] = set()
        self._rules: dict[str, list[str]] = {}
        with org.transaction() as connection:
            connection.execute("DELETE FROM _sandbox_unshared")

    def hide(self, object_name: str, ids: Iterable[str] = (), where: str = "") -> None:
        """Hide records by their Ids, or for as long as they meet a condition of SOQL."""
        definition = self._org.catalogue.object(object_name)
        with self._org.transaction() as connection:
            if where:
                compile_soql(
                    self._org,
                    f"SELECT Id FROM {definition.name} WHERE {where}",
                    include_deleted=True,
                    as_user=False,
                )
                self._rules.setdefault(definition.name, []).append(where)
            rows = [(own_id(definition, one),) for one in ids]
            connection.executemany("INSERT OR IGNORE INTO _sandbox_unshared VALUES (?)", rows)
            if rows:
                self._single.add(definition.name)

    def show(self, object_name: str, ids: Iterable[str] | None = None) -> None:
        """Show hidden records again; without Ids all of the object, and its rules go."""
        definition = self._org.catalogue.object(object_name)
        with self._org.transaction() as connection:
            if ids is None:
                self._rules.pop(definition.name, None)
                self._single.discard(definition.name)
                connection.execute(
                    "DELETE FROM _sandbox_unshared WHERE substr(id, 1, 3) = ?",
                    (definition.key_prefix,),
                )
                return
            connection.executemany(
                "DELETE FROM _sandbox_unshared WHERE id = ?",
                [(own_id(definition, one),) for one in ids],
            )

    def filter(self, definition: ObjectDefinition, id_sql: str) -> Filter | None:
        """The condition that leaves hidden records out; None where nothing is hidden."""
        tests: list[str] = []
        parameters: list[object] = []
        if definition.name in self._single:
            tests.append(f"{id_sql} NOT IN (SELECT id FROM _sandbox_unshared)")
        for rule in self._rules.get(definition.name, ()):
            hidden = compile_soql(
                self._org,
                f"SELECT Id FROM {definition.name} WHERE {rule}",
                include_deleted=True,
                as_user=False,
            )
            tests.append(f"{id_sql} NOT IN ({hidden.sql('t0.Id')})")
            parameters += hidden.parameters
        return (" AND ".join(tests), tuple(parameters)) if tests else None

    def check(self, definition: ObjectDefinition, record_id: str) -> None:
        """Refuse a write to a record that the API user does not see."""
        shown = self.filter(definition, "Id")
        if shown is None:
            return
        row = self._org.store.reader().execute(
            f"SELECT {shown[0]} FROM {quoted(definition.name)} WHERE Id = ?",
            (*shown[1], record_id),
        )
        if (row.fetchone() or (1,))[0] == 0:
            raise OrgError(
                "INSUFFICIENT_ACCESS_OR_READONLY",
                "insufficient access rights on object id",
                status=403,
            )
