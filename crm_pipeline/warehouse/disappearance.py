"""The circuit breaker: a mass disappearance waits for a person.

An empty answer, a lost permission or a wrong filter look like records that are gone. Rows that the
CRM itself shows as deleted or merged are evidence and count for nothing here; rows that are merely
not there any more do, and too many of them at once stop the commit.

Belongs here: the threshold, what is held, and a person's consent. Does not belong here: which rows
are absent (merge.py).
"""

from collections.abc import Callable

import psycopg

from crm_pipeline.errors import MassDisappearance, UsageError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse

MOST_ROWS = 1_000
MOST_SHARE = 0.05
FEWEST_ROWS = 10
"""Below so many rows a share says nothing: one of eight is an everyday deletion."""


def is_mass(vanishing: int, live: int) -> bool:
    """Whether so many rows at once are more likely a fault than the truth."""
    if vanishing > MOST_ROWS:
        return True
    if 1 < live == vanishing:
        return True
    return vanishing >= FEWEST_ROWS and vanishing > MOST_SHARE * live


def require_plausible(
    connection: psycopg.Connection,
    object_name: str,
    vanishing: int,
    count_live: Callable[[], int],
) -> bool:
    """Stop a commit by which too many rows would vanish, unless a person has agreed.

    Args:
        connection: the committing transaction.
        object_name: whose rows.
        vanishing: rows that have just become tombstones because they were not there.
        count_live: live rows that are left; asked only when there is any doubt.

    Returns:
        Whether it goes on because a person has agreed.

    Raises:
        MassDisappearance: nobody has agreed to so many.
    """
    if vanishing < 2:
        return False
    live = count_live() + vanishing
    if not is_mass(vanishing, live):
        return False
    row = connection.execute(
        "SELECT coalesce(accepted_disappearance, 0) FROM crm_sync.object_state"
        " WHERE object_name = %s",
        [object_name],
    ).fetchone()
    accepted = int(row[0]) if row else 0
    # The org lives on between the question and the answer.
    if not accepted or vanishing > accepted + max(FEWEST_ROWS, accepted // 10):
        raise MassDisappearance(object_name, vanishing=vanishing, live=live)
    return True


def hold(connection: psycopg.Connection, error: MassDisappearance, mode: SyncMode) -> None:
    """Write down what waits for a person, so that the status shows it."""
    connection.execute(
        "UPDATE crm_sync.object_state SET held_disappearance = %s, held_mode = %s"
        " WHERE object_name = %s",
        [error.vanishing, mode.value, error.object_name],
    )


def settle(
    connection: psycopg.Connection, object_name: str, mode: SyncMode, *, has_consent: bool
) -> None:
    """Forget what was held, and the consent to it, when a commit has answered it.

    That is one which needed the consent, or the same kind of sync or one that reads everything,
    which did without: what had vanished is back. Any other commit leaves it to wait.
    """
    connection.execute(
        "UPDATE crm_sync.object_state SET"
        " accepted_disappearance = NULL, held_disappearance = NULL, held_mode = NULL"
        " WHERE object_name = %(object)s AND (%(consent)s OR held_mode = %(mode)s"
        " OR (held_mode IS NOT NULL AND %(mode)s = 'full'))",
        {"consent": has_consent, "object": object_name, "mode": mode.value},
    )


def accept(warehouse: Warehouse, object_name: str) -> int:
    """A person agrees to what is held; the next sync of the object marks the rows.

    Returns:
        How many rows.

    Raises:
        UsageError: nothing is held for that object.
    """
    with warehouse.connect() as connection:
        row = connection.execute(
            "UPDATE crm_sync.object_state SET accepted_disappearance = held_disappearance"
            " WHERE object_name = %s AND held_disappearance IS NOT NULL"
            " RETURNING accepted_disappearance",
            [object_name],
        ).fetchone()
    if row is None:
        raise UsageError(
            f"{object_name}: no disappearance waits for consent, so there is nothing to accept. "
            "`crm-pipeline status` shows what waits."
        )
    return int(row[0])
