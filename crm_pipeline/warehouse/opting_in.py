"""An explicit opt-in: the one thing that ends an opt-out.

Belongs here: the statements. Does not belong here: what the ledger means for marts
(dbt_marketing/models/marts/fct_consent.sql), and boxes in the CRM, which nobody here un-ticks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.config.settings import Settings
from crm_pipeline.errors import UsageError
from crm_pipeline.warehouse import withdrawing
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.differences import Target, find_target
from crm_pipeline.warehouse.withdrawing import PENDING, UNWANTED

_FINAL = """
SELECT status FROM events.consent_ledger
WHERE email = %s AND status IN ('complained', 'hard_bounced') ORDER BY status LIMIT 1
"""
_NOTE = """
INSERT INTO events.consent_ledger (email, status, side, evidence, occurred_at)
VALUES (%(email)s, 'subscribed', 'marketing',
        %(because)s || ' (opted in by command at ' || clock_timestamp() || ')', clock_timestamp())
"""
_HOLDERS = """
SELECT t.{id}, {is_ticked} FROM {table} t
WHERE t._deleted_at IS NULL AND lower(btrim(t.{email})) = {address} ORDER BY 1
"""
_UNWANTED = sql.SQL("""
INSERT INTO {unwanted}
SELECT o.write_id FROM crm_sync.outbox o
WHERE {pending} AND o.object_name = %s AND o.field = %s AND o.record_id = ANY(%s)
""").format(unwanted=UNWANTED, pending=PENDING)
_BECAUSE = "The address opted in before the opt-out was sent."
_WHY_FINAL = {
    "complained": "marked our mail as spam",
    "hard_bounced": "does not exist any more: mail to it came back for good",
}


@dataclass(frozen=True, slots=True)
class OptedIn:
    """What an opt-in came to.

    Attributes:
        still_ticked: by object, records of the address whose box refuses mail, as last read.
        withdrawn: ticks that waited to be sent and are not sent any more.
        on_their_way: ticks that were being sent; those that get through stand in the CRM.
    """

    still_ticked: Mapping[str, tuple[str, ...]]
    withdrawn: int
    on_their_way: int


def note_opt_in(warehouse: Warehouse, settings: Settings, address: str, because: str) -> OptedIn:
    """Note that somebody wants mail again, and take back ticks of the older opt-out.

    Args:
        warehouse: holds the ledger.
        settings: say where the boxes are.
        address: in any spelling.
        because: what shows it, for whoever asks one day.

    Raises:
        UsageError: it is no address, or one to which nobody may write whatever is said.
    """
    email = address.strip().lower()
    if "@" not in email:
        raise UsageError("Name an e-mail address.")
    if not because.strip():
        raise UsageError("Say what shows the opt-in with --because, such as a form and its date.")
    still_ticked: dict[str, tuple[str, ...]] = {}
    with warehouse.connect() as connection:
        final = connection.execute(_FINAL, [email]).fetchone()
        if final is not None:
            raise UsageError(
                f"The address {_WHY_FINAL[final[0]]}. An opt-in cannot change that, and nothing was"
                " noted."
            )
        connection.execute(_NOTE, {"email": email, "because": because.strip()})
        withdrawing.collect_unwanted(connection)
        for object_name, field in settings.write_backs.consent.unsubscribed.by_object.items():
            target = _target(connection, warehouse, settings, object_name, field)
            holders = _holders(connection, target, email)
            ticked = tuple(record_id for record_id, is_ticked in holders.items() if is_ticked)
            if ticked:
                still_ticked[object_name] = ticked
            connection.execute(_UNWANTED, [object_name, field, list(holders)])
        withdrawn = withdrawing.end_unwanted(connection, _BECAUSE)
    return OptedIn(still_ticked, withdrawn.ended, withdrawn.on_their_way)


def _target(
    connection: psycopg.Connection, warehouse: Warehouse, settings: Settings, name: str, field: str
) -> Target | None:
    chosen = settings.enabled_objects.get(name)
    if chosen is None:
        return None
    return find_target(connection, warehouse.crm_schema, name, chosen, field)


def _holders(connection: psycopg.Connection, target: Target | None, email: str) -> dict[str, bool]:
    """Living records with the address, and whether their box is ticked."""
    if target is None or target.email_column is None:
        return {}
    is_ticked: sql.Composable = sql.SQL("false")
    if target.column is not None:
        is_ticked = sql.SQL("t.{} IS TRUE").format(sql.Identifier(target.column))
    query = sql.SQL(_HOLDERS).format(
        id=sql.Identifier(target.id_column),
        is_ticked=is_ticked,
        table=target.table,
        email=sql.Identifier(target.email_column),
        address=sql.Literal(email),
    )
    return {str(record_id): bool(ticked) for record_id, ticked in connection.execute(query)}
