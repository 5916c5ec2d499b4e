"""Taking back ticks of consent that are wanted no more, wherever they are just now.

What waits, or was refused, ends. What is on its way cannot be called back: it is marked, and ends
if it does not get through (settling.py) or would go on to another record (handing_over.py).

Belongs here: the statements, for everybody who withdraws. Does not belong here: which are wanted
no more (differences.py, opting_in.py).
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

UNWANTED = sql.Identifier("pg_temp", "write_back_unwanted")
"""Where the write-backs to take back are collected, by id; it ends with the transaction."""

PENDING = sql.SQL(
    "o.lane = 0 AND o.state IN ('waiting', 'held', 'sending', 'parked') AND NOT o.is_withdrawn"
)
"""A condition over `o`, a row of the outbox: what can be taken back; an index holds these alone."""

WITHDRAWN = "WITHDRAWN"

_CREATE = "CREATE TEMPORARY TABLE write_back_unwanted (write_id bigint PRIMARY KEY) ON COMMIT DROP"
# In one order for everybody, so that a drainer that settles them and we wait for each other and
# never in a circle. Whatever they became until the lock was ours counts.
_WITHDRAW = sql.SQL("""
WITH locked AS MATERIALIZED (
    SELECT o.write_id FROM crm_sync.outbox o JOIN {unwanted} u USING (write_id)
    WHERE {pending} ORDER BY o.write_id FOR UPDATE OF o
)
UPDATE crm_sync.outbox o
SET is_withdrawn = true,
    state = CASE WHEN o.state = 'sending' THEN o.state ELSE 'superseded' END,
    ended_at = CASE WHEN o.state = 'sending' THEN NULL ELSE now() END,
    code = CASE WHEN o.state = 'sending' THEN o.code ELSE {code} END,
    reason = CASE WHEN o.state = 'sending' THEN o.reason ELSE {because} END,
    remedy = NULL
FROM locked l WHERE o.write_id = l.write_id
RETURNING o.state
""")
# One that went on to another record before the lock was ours is that other one now.
_FOLLOW = sql.SQL("""
INSERT INTO {unwanted}
SELECT o.successor_id FROM crm_sync.outbox o JOIN {unwanted} u USING (write_id)
WHERE o.state = 'superseded' AND o.code IN ('MERGED', 'CONVERTED') AND o.successor_id IS NOT NULL
ON CONFLICT DO NOTHING
""")
_LOCK = sql.SQL("""
SELECT count(*) FROM (
    SELECT FROM crm_sync.outbox o JOIN {chosen} c USING (write_id)
    WHERE o.state = 'sending' ORDER BY o.write_id FOR UPDATE OF o
) locked
""")


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """How many write-backs were taken back.

    Attributes:
        ended: they waited, or were refused, and are not sent any more.
        on_their_way: they may get through; if they do not, they are not sent again.
    """

    ended: int
    on_their_way: int


def lock_against_withdrawing(connection: psycopg.Connection, chosen: str) -> None:
    """Lock what is on its way in the order of whoever withdraws; the mark is the last word then.

    Args:
        connection: the caller's transaction.
        chosen: the temporary table that names the write-backs, in `write_id`.
    """
    connection.execute(_LOCK.format(chosen=sql.Identifier("pg_temp", chosen)))


def collect_unwanted(connection: psycopg.Connection) -> None:
    """Make the table of what is wanted no more, in the caller's transaction."""
    connection.execute(_CREATE)


def end_unwanted(connection: psycopg.Connection, because: str) -> Withdrawn:
    """Take back what was collected; the rows stay locked to the end of the transaction.

    Args:
        connection: the caller's transaction.
        because: the reason, in a sentence.
    """
    states: list[str] = []
    facts = {"unwanted": UNWANTED, "pending": PENDING}
    if not connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(UNWANTED)).rowcount:
        return Withdrawn(0, 0)
    connection.execute(sql.SQL("ANALYZE {}").format(UNWANTED))
    withdraw = _WITHDRAW.format(**facts, code=sql.Literal(WITHDRAWN), because=sql.Literal(because))
    while True:
        states += [str(row[0]) for row in connection.execute(withdraw)]
        if not connection.execute(_FOLLOW.format(**facts)).rowcount:
            return Withdrawn(states.count("superseded"), states.count("sending"))
