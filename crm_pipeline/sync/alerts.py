"""What a person should know without having to look: computed once, shown everywhere.

| kind | when | what it means |
|---|---|---|
| no_success | no committed sync for three intervals, nor a full sync at work | old data |
| never_synced | an object of the settings that was never fully synced | no table |
| due | something is owed that no differential can mend | columns or rows that are not true |
| quarantine | records whose values fit no column | rows that are not up to date |
| held | a mass disappearance waits for consent | nothing of the object is merged |
| parked | write-backs were refused for good | the CRM lacks what we wanted to say |
| unapproved | write-backs wait for approval | the same, until somebody agrees |
| actions | actions were held or refused | somebody's wish waits for a person |

Belongs here: which facts of the status are worth an alert, and their sentences. Does not belong
here: who is told, and how often (defs/alerts.py, cli/status.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import psycopg

from crm_pipeline.config.settings import Settings
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.ledger import read_status
from crm_pipeline.warehouse.outbox_desk import Stopped, read_stopped

INTERVALS_UNTIL_ALERT = 3
"""One missed tick is weather; three are a fault."""

Row = Mapping[str, object]


class AlertKind(StrEnum):
    """Why a person is told; the names that alerts are counted and filtered by."""

    NO_SUCCESS = "no_success"
    NEVER_SYNCED = "never_synced"
    DUE = "due"
    QUARANTINE = "quarantine"
    HELD = "held"
    PARKED = "parked"
    UNAPPROVED = "unapproved"
    ACTIONS = "actions"


_ACTIONS = """
SELECT object_name, count(*) FROM crm_sync.action
WHERE state IN ('held', 'refused') AND NOT is_dismissed GROUP BY object_name ORDER BY object_name
"""


@dataclass(frozen=True, slots=True)
class Alert:
    """One reason to look.

    Attributes:
        size: of what is counted, so that growth can be told; 0 where nothing is.
    """

    object_name: str
    kind: AlertKind
    sentence: str
    size: int = 0


def read_alerts(warehouse: Warehouse, settings: Settings) -> tuple[Alert, ...]:
    """Every alert of an installation, by the warehouse's own clock."""
    try:
        rows = read_status(warehouse)
        with warehouse.connect(autocommit=True) as connection:
            now = connection.execute("SELECT now()").fetchone()
            writes = read_stopped(connection)
            actions = connection.execute(_ACTIONS).fetchall()
    except psycopg.errors.UndefinedTable:
        rows, now, writes, actions = [], None, [], []
    alerts = find_alerts(rows, settings, now[0] if now else None)
    return (
        *alerts,
        *(alert for one in writes for alert in _of_write_backs(one)),
        *(_of_actions(*row) for row in actions),
    )


def find_alerts(rows: Sequence[Row], settings: Settings, now: datetime | None) -> tuple[Alert, ...]:
    """The alerts in rows of `crm_sync.sync_status`.

    Args:
        rows: all of them.
        settings: as the file says them now.
        now: by the clock that wrote the rows; None while there are none.
    """
    by_name = {str(row["object_name"]): row for row in rows}
    found: list[Alert] = []
    for name in settings.enabled_objects:
        row = by_name.get(name)
        if row is None or row["synced_through"] is None:
            found.append(_never_synced(name, row))
        elif now is not None and (alert := _no_success(row, rows, settings, now)):
            found.append(alert)
        if row is not None and row["due_reason"] and row["synced_through"]:
            found.append(Alert(name, AlertKind.DUE, f"{name}: {row['due_reason']}"))
    for row in rows:
        found += _counted(row)
    return tuple(found)


def _never_synced(name: str, row: Row | None) -> Alert:
    sentence = f"{name} was never fully synced: launch full_sync."
    return Alert(name, AlertKind.NEVER_SYNCED, sentence + _last_error(row))


def _no_success(row: Row, rows: Iterable[Row], settings: Settings, now: datetime) -> Alert | None:
    if any(str(one["status"]).startswith("full sync") for one in rows):
        return None
    # A full sync of one object holds all others back, so its end counts for them, too.
    ends = [row["last_sync_at"], *(one["last_full_sync_at"] for one in rows)]
    newest = max((end for end in ends if isinstance(end, datetime)), default=None)
    interval = settings.differential.interval_minutes
    if newest is None or now - newest <= INTERVALS_UNTIL_ALERT * timedelta(minutes=interval):
        return None
    name = str(row["object_name"])
    off = "" if settings.syncs_enabled else " Syncs are disabled in the settings file."
    return Alert(
        name,
        AlertKind.NO_SUCCESS,
        f"{name}: no sync has succeeded since {newest:%Y-%m-%d %H:%M} UTC, and one is due every "
        f"{interval} minutes.{off}{_last_error(row)}",
    )


def _counted(row: Row) -> Iterable[Alert]:
    name = str(row["object_name"])
    if quarantined := int(str(row["quarantined"] or 0)):
        yield Alert(
            name,
            AlertKind.QUARANTINE,
            f"{name}: {quarantined:,} records are in quarantine; crm_sync.quarantine says why.",
            quarantined,
        )
    if held := int(str(row["held_disappearance"] or 0)):
        yield Alert(
            name,
            AlertKind.HELD,
            f"{name}: {held:,} rows would vanish at once, so nothing is merged. If that is meant "
            f"so: crm-pipeline accept {name}",
            held,
        )


def _of_write_backs(stopped: Stopped) -> Iterable[Alert]:
    name = stopped.object_name
    if stopped.parked:
        yield Alert(
            name,
            AlertKind.PARKED,
            f"{name}: {stopped.parked:,} write-backs are parked; the reason and the remedy of each:"
            f" crm-pipeline write-backs list --state parked --object {name}",
            stopped.parked,
        )
    if stopped.held:
        yield Alert(
            name,
            AlertKind.UNAPPROVED,
            f"{name}: {stopped.held:,} write-backs wait for approval:"
            " crm-pipeline write-backs plan",
            stopped.held,
        )


def _of_actions(name: str, stopped: int) -> Alert:
    return Alert(
        name,
        AlertKind.ACTIONS,
        f"{name}: {stopped:,} actions were held or refused; the reason and the remedy of each:"
        " crm-pipeline actions list",
        stopped,
    )


def _last_error(row: Row | None) -> str:
    return f" The last sync said: {row['last_error']}" if row and row["last_error"] else ""
