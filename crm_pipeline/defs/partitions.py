"""The hourly windows in which changes land.

Partitions are for people: they show when changes were read. What is read is decided by the
watermark, so one run after three days of silence closes the gap, and a window that was never
materialised is no hole. Shorter intervals materialise the open hour again: five-minute partitions
would be 526,000 keys in five years, and the UI needs seconds for those.

Belongs here: which windows there are. Does not belong here: when they are materialised
(schedules.py).
"""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

import dagster as dg

INSTALLED_ON = "installed_on"
_KEY_FORMAT = "%Y-%m-%d-%H:%M"


def build_hourly_windows(home: Path) -> dg.HourlyPartitionsDefinition:
    """Every hour since the installation, the open one included, in UTC."""
    return dg.HourlyPartitionsDefinition(
        start_date=installation_day(home), timezone="UTC", end_offset=1, fmt=_KEY_FORMAT
    )


def window_key(moment: datetime) -> str:
    """The window that a tick closes or finds open: at 10:00 the one of 9, at 10:05 that of 10.

    Computed from the tick's own time: "the newest partition" means newest by the clock of whoever
    asks.
    """
    hour = (moment.astimezone(UTC) - timedelta(seconds=1)).replace(
        minute=0, second=0, microsecond=0
    )
    return hour.strftime(_KEY_FORMAT)


def installation_day(home: Path) -> datetime:
    """Midnight before this installation was seen for the first time.

    A file of its own remembers it: the webserver, the daemon and every run load the location anew,
    and must agree. Partitions from before would be shown as missing for ever.
    """
    file = home / INSTALLED_ON
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        # The eve, so that a tick at midnight on the first day finds its window.
        first_day = datetime.now(UTC).date() - timedelta(days=1)
        with NamedTemporaryFile("w", dir=home, prefix=INSTALLED_ON, delete=False) as new:
            new.write(first_day.isoformat())
        # A link never replaces: of several processes that load at once, the first decides.
        with suppress(FileExistsError):
            os.link(new.name, file)
        Path(new.name).unlink()
    return datetime.fromisoformat(file.read_text().strip()).replace(tzinfo=UTC)
