"""Rejected rows and refused files: showing them, letting them go, reading their files again.

Belongs here: what a person may do about them. Does not belong here: how rows get there
(loading.py).
"""

from collections.abc import Mapping
from typing import Any

import psycopg

from crm_pipeline.model.events import Rejected
from crm_pipeline.warehouse.connection import Warehouse

_OF_FILE = "(%(file)s::text IS NULL OR f.location = %(file)s OR f.location LIKE %(ending)s)"


def rejected_rows(
    warehouse: Warehouse, *, file: str | None = None, limit: int = 100
) -> tuple[Rejected, ...]:
    """Rows in the quarantine, newest file first.

    Args:
        warehouse: migrated.
        file: only those of a file, by its name or whole location.
        limit: rows at most.
    """
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT f.location, q.row_number, q.column_name, q.reason, q.file_row"
            " FROM events.quarantine q JOIN events.event_file f USING (event_file_id)"
            f" WHERE {_OF_FILE} ORDER BY f.event_file_id DESC, q.row_number LIMIT %(limit)s",
            {**_named(file), "limit": limit},
        ).fetchall()
    return tuple(Rejected(*row) for row in rows)


def refused_files(warehouse: Warehouse, *, file: str | None = None) -> Mapping[str, str]:
    """Files of which the last state could not be read, with the reason."""
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT location, refusal FROM (SELECT DISTINCT ON (f.location) f.location, f.refusal,"
            f" f.event_file_id FROM events.event_file f WHERE {_OF_FILE}"
            " ORDER BY f.location, f.event_file_id DESC) newest"
            " WHERE refusal IS NOT NULL ORDER BY event_file_id DESC",
            _named(file),
        ).fetchall()
    return {str(location): str(refusal) for location, refusal in rows}


def count_rejected(warehouse: Warehouse, *, file: str | None = None) -> int:
    """Rows in the quarantine."""
    with warehouse.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM events.quarantine q JOIN events.event_file f"
            f" USING (event_file_id) WHERE {_OF_FILE}",
            _named(file),
        ).fetchone()
    return int(row[0]) if row else 0


def drop_rejected(warehouse: Warehouse, *, file: str | None = None) -> int:
    """Let rejected rows go for good, and refusals with them.

    Returns:
        How many rows.
    """
    with warehouse.connect() as connection:
        dropped = connection.execute(
            "DELETE FROM events.quarantine q USING events.event_file f"
            f" WHERE f.event_file_id = q.event_file_id AND {_OF_FILE}",
            _named(file),
        ).rowcount
        connection.execute(
            "UPDATE events.event_file f SET refusal = NULL"
            f" WHERE refusal IS NOT NULL AND {_OF_FILE}",
            _named(file),
        )
    return dropped


def read_again(warehouse: Warehouse, *, file: str | None = None) -> int:
    """Let files with rejected rows, and refused ones, count as new.

    Returns:
        How many files.
    """
    with warehouse.connect() as connection:
        return forget_version(
            connection,
            "(f.refusal IS NOT NULL OR EXISTS (SELECT FROM events.quarantine q"
            f" WHERE q.event_file_id = f.event_file_id)) AND {_OF_FILE}",
            _named(file),
        )


def forget_version(
    connection: psycopg.Connection, condition: str, values: Mapping[str, Any]
) -> int:
    """What was read stays on record, under a version that no file has."""
    return connection.execute(
        "UPDATE events.event_file f SET version = f.version || ' (read again) ' ||"
        f" f.event_file_id WHERE f.version NOT LIKE '%% (read again) %%' AND {condition}",
        values,
    ).rowcount


def _named(file: str | None) -> dict[str, str | None]:
    if file is None:
        return {"file": None, "ending": None}
    escaped = file.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return {"file": file, "ending": f"%/{escaped}"}
