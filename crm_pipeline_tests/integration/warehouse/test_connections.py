"""Promises of the warehouse's connections: used again within a sync, never a dead one."""

from contextlib import suppress

import psycopg

from crm_pipeline.warehouse.connection import Warehouse


def _session(warehouse: Warehouse) -> int:
    with warehouse.connect() as connection:
        return connection.info.backend_pid


def test_connections_are_used_again_within_a_block_and_end_with_it(database_url: str) -> None:
    warehouse = Warehouse(database_url)
    with warehouse.reusing_connections():
        assert _session(warehouse) == _session(warehouse)
        with warehouse.connect() as kept:
            assert _session(warehouse) != kept.info.backend_pid
    assert kept.closed
    assert _session(warehouse) != _session(warehouse)


def test_a_connection_that_the_server_has_ended_is_not_used_again(database_url: str) -> None:
    warehouse = Warehouse(database_url)
    with warehouse.reusing_connections():
        ended = _session(warehouse)
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [ended])
        assert _session(warehouse) != ended


def test_a_connection_that_an_error_has_left_is_rolled_back_and_not_used_again(
    database_url: str,
) -> None:
    warehouse = Warehouse(database_url)
    with warehouse.reusing_connections():
        with suppress(KeyError), warehouse.connect() as left:
            left.execute("CREATE TABLE public.half (id int)")
            raise KeyError
        assert left.closed
        with warehouse.connect() as connection:
            assert connection.execute("SELECT to_regclass('public.half')").fetchone() == (None,)
