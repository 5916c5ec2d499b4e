"""A warehouse whose connections are kept: the model opens thirty of them for each sync.

Belongs here: handing out kept connections as `Warehouse.connect` hands out new ones. Does not
belong here: anything that a proof of crashes uses; there, every connection is real.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import psycopg
from psycopg.pq import TransactionStatus

from crm_pipeline.warehouse.connection import Warehouse

_SESSION = "-c search_path=pg_catalog -c TimeZone=UTC -c DateStyle=ISO"


@dataclass(frozen=True)
class KeptWarehouse(Warehouse):
    """The same promises as the warehouse's: commits at the end, rolls back on an error."""

    _idle: list[psycopg.Connection] = field(default_factory=list, compare=False, repr=False)
    _lock: Lock = field(default_factory=Lock, compare=False, repr=False)

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
        """A kept connection, in the state of a new one."""
        connection = self._taken()
        connection.autocommit = autocommit
        try:
            yield connection
            connection.commit()
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
        finally:
            self._give_back(connection)

    def _taken(self) -> psycopg.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return psycopg.connect(self.url, options=_SESSION, prepare_threshold=None)

    def _give_back(self, connection: psycopg.Connection) -> None:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.close()
            return
        connection.autocommit = True
        connection.execute("SET lock_timeout = 0")
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close what is kept."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()
