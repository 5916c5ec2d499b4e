"""Decisions of the command line that need neither a CRM nor a database."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crm_pipeline.cli.console import shown
from crm_pipeline.cli.demo import fresh_home
from crm_pipeline.cli.init import require_known, split_names
from crm_pipeline.cli.services import first_free_port, require_loopback
from crm_pipeline.cli.status import next_tick
from crm_pipeline.errors import UsageError


@pytest.mark.parametrize(
    ("now", "minutes", "expected"),
    [
        ("2026-03-02T12:00:00", 60, "2026-03-02T13:00:00"),
        ("2026-03-02T12:59:59", 60, "2026-03-02T13:00:00"),
        ("2026-03-02T12:03:00", 5, "2026-03-02T12:05:00"),
        ("2026-03-02T23:58:00", 5, "2026-03-03T00:00:00"),
        ("2026-03-02T09:00:00", 480, "2026-03-02T16:00:00"),
        ("2026-03-02T00:00:00", 1440, "2026-03-03T00:00:00"),
    ],
)
def test_the_next_tick_is_counted_from_midnight_utc(now: str, minutes: int, expected: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert next_tick(moment, minutes) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_names_are_split_at_commas_and_kept_once() -> None:
    assert split_names(" Lead, Contact ,,Lead") == ("Lead", "Contact")


def test_names_get_the_spelling_that_is_known() -> None:
    assert require_known(["lead"], ["Lead", "Contact"], where="the org") == ("Lead",)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no object Contct in the org; did you mean Contact"):
        require_known(["Contct"], ["Lead", "Contact"], where="the org")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_is_always_allowed(host: str) -> None:
    assert require_loopback(host, allow_remote=False) in {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])  # noqa: S104 - refused
def test_other_addresses_need_a_word(host: str) -> None:
    with pytest.raises(UsageError, match="--allow-remote"):
        require_loopback(host, allow_remote=False)
    assert require_loopback(host, allow_remote=True) == host


def test_a_host_must_be_an_address() -> None:
    with pytest.raises(UsageError, match="--host takes an IP address"):
        require_loopback("example.com", allow_remote=True)


def test_a_taken_port_gives_way_to_the_next() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert first_free_port("127.0.0.1", port) > port


def test_a_fresh_home_throws_away_only_what_a_demo_has_written(tmp_path: Path) -> None:
    home = fresh_home(tmp_path / "once")
    (home / "left over").touch()
    assert [file.name for file in fresh_home(home).iterdir()] == ["this_is_a_demo"]
    somebody = tmp_path / "somebody"
    somebody.mkdir()
    (somebody / "precious").touch()
    with pytest.raises(UsageError, match="no demo's"):
        fresh_home(somebody)
    assert (somebody / "precious").exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), (True, "yes"), (1234567, "1,234,567"), (0.25, "0.2"), ("[bold]", "[bold]")],
)
def test_values_are_shown_as_people_read_them(value: object, expected: str) -> None:
    assert shown(value) == expected
