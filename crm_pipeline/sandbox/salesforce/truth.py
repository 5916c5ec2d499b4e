"""The ledger of truth: every committed version of every record, and when it was committed.

Old versions are copied aside by SQLite triggers at the moment they are replaced, so that a new
record costs nothing and a change costs one more row. What the API user may see plays no part.

Belongs here: asking for the past. Does not belong here: the tables and triggers (storage.py),
the requests that came (ledger.py).
"""

from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.clock import stamp_moment, stamp_text
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.storage import past_table, quoted
from crm_pipeline.sandbox.salesforce.values import plainer

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Row = dict[str, Any]


def at(
    org: "SandboxOrg",
    object_name: str,
    *,
    instant: str | None = None,
    commit: int | None = None,
    include_deleted: bool = False,
) -> dict[str, Row]:
    """The records of an object as of an instant of commit time, or after a commit; by Id.

    Formula and compound fields are left out: they are computed when they are read.
    """
    definition = _kept(org, object_name)
    number = commit if commit is not None else _last_commit(org, instant)
    fields = [one for one in definition.fields if one.stored]
    past, table = past_table(definition), quoted(definition.name)
    found = org.store.reader().execute(
        f"WITH gone AS (SELECT min(rowid) AS place, Id FROM {past} WHERE _until > ? GROUP BY Id) "
        f"SELECT {_names(fields, 'p')} FROM {past} AS p JOIN gone ON p.rowid = gone.place "
        "WHERE p._born <= ? "
        f"UNION ALL SELECT {_names(fields, 't')} FROM {table} AS t "
        "WHERE t._born <= ? AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.Id = t.Id)",
        (number, number, number),
    )
    rows = (_row(fields, values) for values in found)
    return {row["Id"]: row for row in rows if include_deleted or not row.get("IsDeleted", False)}


def versions(org: "SandboxOrg", object_name: str, record_id: str) -> list[Row]:
    """Every committed version of one record, oldest first, with its commit.

    Each has `record` (None once it is gone for good), `commit`, `begun_at` and `committed_at`;
    the stamp is the record's own SystemModstamp. A state that the same commit replaced again
    was never seen by anybody, and is not among them.
    """
    definition = _kept(org, object_name)
    identifier = identifiers.normalise(record_id)
    fields = [one for one in definition.fields if one.stored]
    reader = org.store.reader()
    lives = reader.execute(
        f"SELECT _born, _until, {_names(fields, 'p')} FROM {past_table(definition)} AS p "
        "WHERE Id = ? ORDER BY rowid",
        (identifier,),
    ).fetchall()
    lives += reader.execute(
        f"SELECT _born, NULL, {_names(fields, 't')} FROM {quoted(definition.name)} AS t "
        "WHERE Id = ?",
        (identifier,),
    ).fetchall()
    states: dict[int, Row | None] = {}
    since = 0
    for born, until, *values in lives:
        since = max(since, born)
        states[since] = _row(fields, values)
        if until is not None:
            since = until
            states[until] = None
    return [{**_commit(org, number), "record": record} for number, record in states.items()]


def forget(org: "SandboxOrg", before: str) -> None:
    """Drop the versions that were replaced before an instant; the past then begins there."""
    number = _last_commit(org, before)
    with org.transaction() as connection:
        for definition in org.catalogue.all():
            connection.execute(f"DELETE FROM {past_table(definition)} WHERE _until <= ?", (number,))


def _kept(org: "SandboxOrg", object_name: str) -> ObjectDefinition:
    if not org.store.keeps_past:
        raise OrgError("INVALID_OPERATION", "this org was told to keep no past versions")
    return org.catalogue.object(object_name)


def _last_commit(org: "SandboxOrg", instant: str | None) -> int:
    if instant is None:
        return org.commits.last
    row = org.store.reader().execute(
        "SELECT max(number) FROM _sandbox_commits WHERE committed_at <= ?",
        (stamp_text(stamp_moment(instant)),),
    )
    return int(row.fetchone()[0] or 0)


def _commit(org: "SandboxOrg", number: int) -> Row:
    row = org.store.reader().execute(
        "SELECT begun_at, committed_at FROM _sandbox_commits WHERE number = ?", (number,)
    )
    begun, committed = row.fetchone() or (None, None)
    return {"commit": number, "begun_at": begun, "committed_at": committed}


def _names(fields: list[FieldDefinition], alias: str) -> str:
    return ", ".join(f"{alias}.{quoted(one.name)}" for one in fields)


def _row(fields: list[FieldDefinition], values: Any) -> Row:
    return {
        field.name: (form(value) if (form := plainer(field)) else value)
        for field, value in zip(fields, values, strict=True)
    }
