"""What a bulk job is given and what it gives back, as CSV that Python does not look into.

The server renders a claim as the CSV that is uploaded, and reads the results by COPY. Only errors
pass through Python, each text once.

Belongs here: CSV out of a claim, and outcomes out of CSV. Does not belong here: sending it (crm/),
claiming (claims.py), what a settlement does to a row (settling.py).
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.model.objects import ValueType
from crm_pipeline.model.writeback import Outcome
from crm_pipeline.warehouse.claims import Claim
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.settling import settle_from

_RENDERED: Mapping[ValueType, str] = {
    ValueType.DATETIME: (
        "to_char({text}::timestamp with time zone AT TIME ZONE 'UTC',"
        ' \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')'
    ),
    ValueType.DATE: "to_char({text}::date, 'YYYY-MM-DD')",
    ValueType.TIME: "to_char({text}::time, 'HH24:MI:SS.MS\"Z\"')",
    ValueType.INTEGER: "({text}::numeric)::bigint::text",
    ValueType.DECIMAL: "({text}::numeric)::text",
    ValueType.BOOLEAN: "({text}::boolean)::text",
}
_INPUT: Mapping[ValueType, str] = {
    ValueType.DATETIME: "timestamp with time zone",
    ValueType.DATE: "date",
    ValueType.TIME: "time",
    ValueType.INTEGER: "numeric",
    ValueType.DECIMAL: "numeric",
    ValueType.BOOLEAN: "boolean",
}
_VALUES = """
crm_sync.outbox o CROSS JOIN LATERAL (
    SELECT o.field AS name, o.value AS value WHERE o.field IS NOT NULL
    UNION ALL SELECT f.key, f.value FROM jsonb_each(o.fields) f
) v
"""


@dataclass(frozen=True, slots=True)
class JobColumns:
    """The columns of a job's CSV.

    Attributes:
        key: the field that names the record: its id, or an external id.
        is_update: whether the key is the record's id.
        types: of the fields, by API name as the CRM spells it.
        null: the text that empties a field.
    """

    key: str
    is_update: bool
    types: Mapping[str, ValueType]
    null: str


def fields_of_claim(warehouse: Warehouse, taken: Claim) -> tuple[str, ...]:
    """The fields that a claim writes."""
    with warehouse.connect(autocommit=True) as connection:
        rows = connection.execute(
            f"SELECT DISTINCT v.name FROM {_VALUES}"
            " WHERE o.claim_id = %s AND o.state = 'sending' ORDER BY 1",
            [taken.claim_id],
        ).fetchall()
    return tuple(str(row[0]) for row in rows)


def settle_fields(
    warehouse: Warehouse,
    lease: Lease,
    taken: Claim,
    refused: Mapping[str, Outcome],
    types: Mapping[str, ValueType],
) -> Counter[str]:
    """Settle what of a claim cannot be sent: refused fields, and values that do not fit.

    A create or upsert with such a field goes back, to be looked at by itself.
    """

    def fill(connection: psycopg.Connection) -> None:
        for name, outcome in refused.items():
            connection.execute(
                "INSERT INTO pg_temp.outbox_settled"
                " SELECT DISTINCT o.write_id,"
                " CASE WHEN o.field IS NULL THEN 'retry' ELSE 'park' END, NULL, NULL::boolean,"
                f" %s, %s, %s, 0, false, o.field IS NOT NULL, o.field IS NULL FROM {_VALUES}"
                " WHERE o.claim_id = %s AND o.state = 'sending' AND v.name = %s"
                " AND NOT EXISTS (SELECT FROM pg_temp.outbox_settled s"
                " WHERE s.write_id = o.write_id)",
                [outcome.code, outcome.reason, outcome.remedy, taken.claim_id, name],
            )
        for name, value_type in types.items():
            if value_type not in _INPUT:
                continue
            connection.execute(
                "INSERT INTO pg_temp.outbox_settled"
                " SELECT DISTINCT o.write_id,"
                " CASE WHEN o.field IS NULL THEN 'retry' ELSE 'park' END, NULL, NULL::boolean,"
                " 'INVALID_TYPE_ON_FIELD_IN_RECORD', 'The value is not of the field''s type.',"
                " 'Map another field, or correct it.', 0, false, o.field IS NOT NULL,"
                f" o.field IS NULL FROM {_VALUES}"
                " WHERE o.claim_id = %s AND o.state = 'sending' AND v.name = %s"
                " AND v.value <> 'null' AND v.value <> '\"\"'"
                " AND NOT pg_input_is_valid(v.value #>> '{}', %s)"
                " AND NOT EXISTS (SELECT FROM pg_temp.outbox_settled s"
                " WHERE s.write_id = o.write_id)",
                [taken.claim_id, name, _INPUT[value_type]],
            )

    return settle_from(warehouse, lease, taken, fill)


def job_content(warehouse: Warehouse, taken: Claim, columns: JobColumns) -> Iterator[bytes]:
    """The CSV of a claim, a record a row, children of one parent side by side."""
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow((columns.key, *columns.types))
    yield header.getvalue().encode()
    cells = [_cell(name, kind, columns.null) for name, kind in columns.types.items()]
    key = sql.Identifier("record_id" if columns.is_update else "external_id")
    statement = sql.SQL(
        "COPY (SELECT o.{key}, {cells} FROM " + _VALUES + " WHERE o.claim_id = {claim}"
        " AND o.state = 'sending' GROUP BY o.{key} ORDER BY min(o.parent_id), o.{key})"
        " TO STDOUT (FORMAT csv)"
    ).format(key=key, cells=sql.SQL(", ").join(cells), claim=sql.Literal(taken.claim_id))
    with (
        warehouse.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for part in copy:
            yield bytes(part)


def settle_job(
    warehouse: Warehouse,
    lease: Lease,
    taken: Claim,
    columns: JobColumns,
    *,
    applied: Iterable[bytes],
    refused: Iterable[bytes],
    judge: Callable[[str], Outcome],
    delay_seconds: float,
    api_calls: int,
) -> Counter[str]:
    """Settle a claim by the results of its job; what neither result names was not looked at.

    A record that needs a second look goes back to be sent by single calls: it carried several
    fields, is somewhere else now, or was refused over another one's fault.
    """
    # Kept, for a settlement that meets a newer value is made anew.
    results = {"applied": b"".join(applied), "refused": b"".join(refused)}

    def fill(connection: psycopg.Connection) -> None:
        key = sql.Identifier("record_id" if columns.is_update else "external_id")
        names = {"key": key, "claim": sql.Literal(taken.claim_id)}
        _load(connection, "job_applied", results["applied"], columns.key)
        _load(connection, "job_refused", results["refused"], columns.key)
        connection.execute(
            sql.SQL(
                "INSERT INTO pg_temp.outbox_settled"
                " SELECT o.write_id, 'applied', r.id, r.note = 'true', NULL, NULL, NULL,"
                " 0, false, false, false"
                " FROM pg_temp.job_applied r JOIN crm_sync.outbox o ON o.{key} = r.key"
                " WHERE o.claim_id = {claim} AND o.state = 'sending'"
            ).format(**names)
        )
        _judge(connection, judge)
        connection.execute(
            sql.SQL(
                "INSERT INTO pg_temp.outbox_settled"
                " SELECT o.write_id, CASE WHEN a.is_alone THEN 'retry' ELSE e.verdict END, NULL,"
                " NULL::boolean, e.code, e.reason, e.remedy,"
                " CASE WHEN a.is_alone THEN 0 ELSE {delay} END, false, NOT a.is_alone, a.is_alone"
                " FROM pg_temp.job_refused r"
                " JOIN pg_temp.job_error e ON e.error = r.note"
                " JOIN crm_sync.outbox o ON o.{key} = r.key"
                " CROSS JOIN LATERAL (SELECT e.verdict IN ('gone', 'converted', 'duplicate')"
                "   OR e.is_contagious"
                "   OR (e.verdict = 'park' AND EXISTS (SELECT FROM crm_sync.outbox b"
                "       WHERE b.claim_id = o.claim_id AND b.state = 'sending'"
                "       AND b.{key} = o.{key} AND b.write_id <> o.write_id)) AS is_alone) a"
                " WHERE o.claim_id = {claim} AND o.state = 'sending'"
            ).format(**names, delay=sql.Literal(delay_seconds))
        )
        connection.execute(
            sql.SQL(
                "INSERT INTO pg_temp.outbox_settled"
                " SELECT o.write_id, 'retry', NULL, NULL::boolean, 'NOT_PROCESSED',"
                " 'The job ended before it came to this record.',"
                " 'Look at Setup > Bulk Data Load Jobs in the CRM, then requeue.', {delay}, false,"
                " true, false FROM crm_sync.outbox o"
                " WHERE o.claim_id = {claim} AND o.state = 'sending'"
                " AND NOT EXISTS (SELECT FROM pg_temp.outbox_settled s"
                " WHERE s.write_id = o.write_id)"
            ).format(**names, delay=sql.Literal(delay_seconds))
        )

    return settle_from(warehouse, lease, taken, fill, api_calls=api_calls)


def _cell(name: str, value_type: ValueType, null: str) -> sql.Composable:
    text = "(v.value #>> '{{}}')"
    rendered = _RENDERED.get(value_type, "{text}").replace("{text}", text)
    # A tick box is never empty, and takes null for false.
    empty = "false" if value_type is ValueType.BOOLEAN else null
    # Compared without case: the CRM's spelling of a field heads the column.
    return sql.SQL(
        "max(CASE WHEN v.value = 'null' OR v.value = '\"\"' THEN {empty} ELSE "
        + rendered
        + " END) FILTER (WHERE lower(v.name) = lower({name}))"
    ).format(empty=sql.Literal(empty), name=sql.Literal(name))


def _load(connection: psycopg.Connection, table: str, content: bytes, key: str) -> None:
    """A result's key, id and error or mark of creation as a temporary table."""
    head, _, _ = content.partition(b"\n")
    names = next(csv.reader([head.decode("utf-8-sig")]), [])
    columns = sql.SQL(", ").join(
        sql.SQL("{} text").format(sql.Identifier(f"c{position}")) for position in range(len(names))
    )
    raw = sql.Identifier(f"{table}_raw")
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(raw, columns)
    )
    if names:
        statement = sql.SQL("COPY pg_temp.{} FROM STDIN (FORMAT csv, HEADER true)").format(raw)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(content)
    connection.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS"
            " SELECT {} AS key, {} AS id, coalesce({}, '') AS note FROM pg_temp.{}"
        ).format(
            sql.Identifier(table),
            _position(names, (key,)),
            _position(names, ("sf__Id",)),
            _position(names, ("sf__Created", "sf__Error")),
            raw,
        )
    )
    # Nobody has counted the outbox lately, so the planner may think that a claim is a row or two:
    # with an index, that costs nothing.
    connection.execute(
        sql.SQL("CREATE INDEX ON pg_temp.{} (key); ANALYZE pg_temp.{}").format(
            sql.Identifier(table), sql.Identifier(table)
        )
    )


def _position(names: Sequence[str], wanted: Sequence[str]) -> sql.Composable:
    """The column of that name, which may come in another case."""
    folded = [name.casefold() for name in names]
    for name in wanted:
        if name.casefold() in folded:
            return sql.Identifier(f"c{folded.index(name.casefold())}")
    return sql.SQL("NULL::text")


def _judge(connection: psycopg.Connection, judge: Callable[[str], Outcome]) -> None:
    """Give each error text its meaning, once."""
    connection.execute(
        "CREATE TEMPORARY TABLE job_error (error text, verdict text, code text, reason text,"
        " remedy text, is_contagious boolean) ON COMMIT DROP"
    )
    errors = connection.execute("SELECT DISTINCT note FROM pg_temp.job_refused").fetchall()
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY pg_temp.job_error FROM STDIN") as copy,
    ):
        for (error,) in errors:
            outcome = judge(str(error))
            copy.write_row(
                (
                    error,
                    outcome.verdict.value,
                    outcome.code,
                    outcome.reason,
                    outcome.remedy,
                    outcome.is_contagious,
                )
            )
