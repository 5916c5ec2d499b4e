"""Hourly windows since the day of the installation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from crm_pipeline.defs.partitions import build_hourly_windows, installation_day, window_key


@pytest.mark.parametrize(
    ("tick", "key"),
    [
        ((10, 0), "2026-03-02-09:00"),
        ((10, 5), "2026-03-02-10:00"),
        ((10, 55), "2026-03-02-10:00"),
        ((0, 0), "2026-03-01-23:00"),
    ],
)
def test_a_tick_closes_its_hour_or_finds_it_open(tick: tuple[int, int], key: str) -> None:
    assert window_key(datetime(2026, 3, 2, *tick, tzinfo=UTC)) == key


def test_the_first_day_is_remembered(tmp_path: Path) -> None:
    with time_machine.travel(datetime(2026, 3, 2, 0, 0, 30, tzinfo=UTC), tick=False):
        first = installation_day(tmp_path)
        windows = build_hourly_windows(tmp_path)
        assert windows.has_partition_key(window_key(datetime(2026, 3, 2, tzinfo=UTC)))
        assert windows.has_partition_key(window_key(datetime(2026, 3, 2, 0, 0, 30, tzinfo=UTC)))
    with time_machine.travel(datetime(2027, 8, 1, tzinfo=UTC), tick=False):
        assert installation_day(tmp_path) == first == datetime(2026, 3, 1, tzinfo=UTC)
    assert [file.name for file in tmp_path.iterdir()] == ["installed_on"]


def test_an_hour_that_clocks_repeat_or_skip_is_one_window_in_utc(tmp_path: Path) -> None:
    with time_machine.travel(datetime(2026, 3, 20, tzinfo=UTC), tick=False):
        windows = build_hourly_windows(tmp_path)
    night = datetime(2026, 3, 29, tzinfo=UTC)
    keys = {window_key(night + timedelta(hours=hour)) for hour in range(1, 25)}
    with time_machine.travel(datetime(2026, 4, 2, tzinfo=UTC), tick=False):
        known = set(windows.get_partition_keys())
    assert len(keys) == 24
    assert keys <= known
