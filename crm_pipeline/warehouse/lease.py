"""The lease: at most one sync owns an object, whoever started it.

A lease is a row with an epoch that only grows. A holder renews it by a heartbeat; when the heart
stops, the lease falls free after `LEASE_SECONDS`. Whoever commits data locks the row and compares
the epoch in the same transaction, so that a holder that was stopped past its time cannot commit.

Belongs here: taking, keeping, proving and giving back leases. Does not belong here: who waits and
who gives up when a lease is held (sync/).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

from crm_pipeline.errors import CrmPipelineError, LeaseBusy, LeaseLost
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse

LEASE_SECONDS = 30.0
"""How long a lease outlives its holder's last heartbeat. Peers let dead runs block for ever."""

WRITE_BACK_LEASE = "write_back"
"""Of the one who empties the outbox; no object is called so."""

_TAKE = """
INSERT INTO crm_sync.lease AS l (name, epoch, owner, mode, acquired_at, expires_at)
VALUES (%(name)s, 1, %(owner)s, %(mode)s, now(), now() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE
SET epoch = l.epoch + 1, owner = excluded.owner, mode = excluded.mode,
    acquired_at = now(), expires_at = excluded.expires_at
WHERE l.owner IS NULL OR l.expires_at < now() OR l.owner = excluded.owner
RETURNING epoch
"""
_HOLDER = """
SELECT owner, mode, greatest(0, extract(epoch FROM expires_at - now()))::float8
FROM crm_sync.lease WHERE name = %s
"""
_RENEW = """
UPDATE crm_sync.lease SET expires_at = now() + make_interval(secs => %(seconds)s)
WHERE name = %(name)s AND epoch = %(epoch)s AND owner IS NOT NULL
"""
_RELEASE = "UPDATE crm_sync.lease SET owner = NULL WHERE name = %(name)s AND epoch = %(epoch)s"
_PROVE = (
    "SELECT 1 FROM crm_sync.lease WHERE name = %s AND epoch = %s AND owner IS NOT NULL FOR UPDATE"
)
_RUNNING = """
SELECT name, owner, mode FROM crm_sync.lease
WHERE owner IS NOT NULL AND expires_at > now() ORDER BY name
"""


@dataclass
class Lease:
    """One held lease.

    Attributes:
        name: the CRM object that is owned.
        epoch: the fencing token.
    """

    name: str
    owner: str
    epoch: int
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Stop early if the heartbeat has seen that somebody else took over.

        Raises:
            LeaseLost: it has.
        """
        if self.lost.is_set():
            raise LeaseLost(f"{self.name}: another run took over while this one stood still.")

    def prove(self, connection: psycopg.Connection) -> None:
        """Hold the lease until the connection's transaction ends.

        It is the last statement before a commit: held any earlier it would keep our own heartbeat
        waiting, and a long merge would look dead.

        Raises:
            LeaseLost: the epoch has moved on.
        """
        if connection.execute(_PROVE, [self.name, self.epoch]).fetchone() is None:
            self.lost.set()
            self.check()


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who owns an object now, for people who wonder why their sync waits."""

    name: str
    owner: str
    mode: SyncMode


def running_syncs(warehouse: Warehouse) -> tuple[LeaseHolder, ...]:
    """Every live lease."""
    with warehouse.connect(autocommit=True) as connection:
        rows = connection.execute(_RUNNING).fetchall()
    return tuple(LeaseHolder(name, owner, SyncMode(mode)) for name, owner, mode in rows)


@contextmanager
def held_lease(
    warehouse: Warehouse, name: str, *, owner: str, mode: SyncMode, seconds: float = LEASE_SECONDS
) -> Iterator[Lease]:
    """Own an object for the length of the block, with a heartbeat in the background.

    Raises:
        LeaseBusy: somebody else owns it.
    """
    with warehouse.connect(autocommit=True) as connection:
        lease = _take(connection, name, owner=owner, mode=mode, seconds=seconds)
        stopped = threading.Event()
        heart = threading.Thread(
            target=_beat,
            args=(warehouse, lease, stopped, seconds),
            name=f"lease {name}",
            daemon=True,
        )
        heart.start()
        try:
            yield lease
        finally:
            stopped.set()
            heart.join()
            with suppress(psycopg.OperationalError):
                connection.execute(_RELEASE, {"name": name, "epoch": lease.epoch})


def _take(
    connection: psycopg.Connection, name: str, *, owner: str, mode: SyncMode, seconds: float
) -> Lease:
    facts = {"name": name, "owner": owner, "mode": mode.value, "seconds": seconds}
    with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        # LOCAL: behind a transaction pooler, the session is somebody else's a moment later.
        connection.execute("SET LOCAL lock_timeout = '2s'")
        row = connection.execute(_TAKE, facts).fetchone()
        if row is not None:
            return Lease(name, owner, int(row[0]))
    holder = connection.execute(_HOLDER, [name]).fetchone() or ("somebody", "unknown", 0.0)
    raise LeaseBusy(
        f"{name}: a {holder[1]} sync (run {holder[0]}) is at work on it. Try again when it is "
        f"done; if it is dead, its lease falls free in {holder[2]:.0f} s.",
        owner=str(holder[0]),
        expires_in_seconds=float(holder[2]),
    )


def _beat(warehouse: Warehouse, lease: Lease, stopped: threading.Event, seconds: float) -> None:
    """Renew until told to stop; a database that does not answer is asked again at the next beat."""
    facts = {"name": lease.name, "epoch": lease.epoch, "seconds": seconds}
    while not stopped.wait(seconds / 4):
        with (
            suppress(CrmPipelineError, psycopg.OperationalError),
            warehouse.connect(autocommit=True) as connection,
        ):
            if connection.execute(_RENEW, facts).rowcount == 0:
                lease.lost.set()
                return
