"""At most one sync owns an object, and a worker that lost its lease can commit nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_pipeline.errors import LeaseBusy, LeaseLost
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.lease import held_lease, running_syncs
from crm_pipeline_tests.integration.warehouse.conftest import Bench


def test_a_second_sync_is_told_who_owns_the_object(bench: Bench) -> None:
    with held_lease(bench.warehouse, "Lead", owner="first", mode=SyncMode.FULL):
        with (
            pytest.raises(LeaseBusy, match=r"Lead: a full sync \(run first\) is at work") as caught,
            held_lease(bench.warehouse, "Lead", owner="second", mode=SyncMode.DIFFERENTIAL),
        ):
            raise AssertionError("two own the object")
        assert caught.value.owner == "first"
        assert [h.name for h in running_syncs(bench.warehouse)] == ["Lead"]
    assert running_syncs(bench.warehouse) == ()


def test_of_eight_that_start_at_once_one_owns_the_object(bench: Bench) -> None:
    start, inside, overlaps, owned = threading.Barrier(8), [0], [0], [0]

    def rival(number: int) -> None:
        start.wait()
        try:
            with held_lease(
                bench.warehouse, "Lead", owner=f"r{number}", mode=SyncMode.DIFFERENTIAL
            ):
                inside[0] += 1
                owned[0] += 1
                overlaps[0] += inside[0] > 1
                running_syncs(bench.warehouse)
                inside[0] -= 1
        except LeaseBusy:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rival, range(8)))
    assert overlaps == [0]
    assert owned[0] >= 1


def test_a_holder_that_stood_still_past_its_time_is_fenced_off(bench: Bench) -> None:
    with held_lease(bench.warehouse, "Lead", owner="sleeper", mode=SyncMode.FULL) as sleeper:
        with bench.warehouse.connect() as connection:
            connection.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 s'")
        with held_lease(bench.warehouse, "Lead", owner="heir", mode=SyncMode.FULL) as heir:
            assert heir.epoch > sleeper.epoch
            with bench.warehouse.connect() as connection:
                heir.prove(connection)
            with bench.warehouse.connect() as connection, pytest.raises(LeaseLost):
                sleeper.prove(connection)
            with pytest.raises(LeaseLost):
                sleeper.check()


def test_a_heartbeat_keeps_the_lease_beyond_its_seconds(bench: Bench) -> None:
    with held_lease(bench.warehouse, "Lead", owner="a", mode=SyncMode.FULL, seconds=0.4) as lease:
        for _ in range(20):
            threading.Event().wait(0.05)
            with bench.warehouse.connect() as connection:
                lease.prove(connection)
        rival = held_lease(bench.warehouse, "Lead", owner="b", mode=SyncMode.FULL)
        with pytest.raises(LeaseBusy), rival:
            pass
