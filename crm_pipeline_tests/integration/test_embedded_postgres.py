"""The embedded PostgreSQL through crashes, crowds and reboots."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from crm_pipeline.errors import CrmPipelineError, PermanentError, UsageError
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

SMALL = {"fsync": "off", "shared_buffers": "16MB"}
START = f"""
import sys
from pathlib import Path
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), settings={SMALL!r})
print(server.ensure_running(), flush=True)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders closed to others")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home, settings=SMALL)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared_url(shared_home: Path) -> Iterator[str]:
    server = EmbeddedPostgres(shared_home, settings=SMALL)
    yield server.ensure_running()
    server.stop()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def remember(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def postmaster(home: Path) -> int:
    return int((home / "postgres/data/postmaster.pid").read_text().split("\n")[0])


def wait_until_refused(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return
    pytest.fail("the server still answers")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("wal_level", "minimal"),
        ("TimeZone", "UTC"),
        ("password_encryption", "scram-sha-256"),
        ("shared_buffers", "16MB"),
    ],
)
def test_the_server_is_set_up_for_safe_bulk_loading(
    shared_url: str, setting: str, expected: str
) -> None:
    assert ask(shared_url, f"SHOW {setting}") == expected


def test_letters_beyond_ascii_have_a_lower_case(shared_url: str) -> None:
    assert ask(shared_url, "SELECT lower('JOSÉ ÅSA')") == "josé åsa"


def test_both_databases_exist(shared_url: str, shared_home: Path) -> None:
    assert ask(shared_url, "SELECT current_database()") == "crm_pipeline"
    dagster = EmbeddedPostgres(shared_home).url("dagster")
    assert ask(dagster, "SELECT current_database()") == "dagster"


def test_only_we_may_read_the_password(shared_url: str, shared_home: Path) -> None:
    password = shared_home / "postgres/password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text() == urlsplit(shared_url).password
    assert not (shared_home / "postgres/password.new").exists()


@pytest.mark.parametrize("credentials", ["crm_pipeline@", "crm_pipeline:wrong@", "postgres@"])
@pytest.mark.parametrize("database", ["crm_pipeline", "dagster", "postgres"])
def test_a_connection_without_the_password_is_refused(
    shared_url: str, credentials: str, database: str
) -> None:
    port = urlsplit(shared_url).port
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://{credentials}127.0.0.1:{port}/{database}")


def test_psql_of_the_server_answers(shared_url: str, shared_home: Path) -> None:
    psql = EmbeddedPostgres(shared_home).psql_path
    command = [str(psql), shared_url, "--no-psqlrc", "--tuples-only", "--command=SELECT 42"]
    assert subprocess.check_output(command, text=True).strip() == "42"


def test_nothing_runs_and_nothing_has_an_address_before_the_first_start(
    server: EmbeddedPostgres,
) -> None:
    assert not server.is_running()
    server.stop()
    with pytest.raises(UsageError, match="Start it"):
        server.url()


def test_stop_stops_and_the_next_start_keeps_data_and_address(
    server: EmbeddedPostgres,
) -> None:
    url = server.ensure_running()
    remember(url)
    server.stop()
    assert not server.is_running()
    wait_until_refused(url)
    assert server.ensure_running() == url
    assert ask(url, "SELECT answer FROM kept") == 42


def test_a_killed_postmaster_loses_nothing(server: EmbeddedPostgres, home: Path) -> None:
    url = server.ensure_running()
    remember(url)
    os.kill(postmaster(home), signal.SIGKILL)
    assert server.ensure_running() == url
    assert ask(url, "SELECT answer FROM kept") == 42


def test_the_next_server_waits_for_the_backends_of_a_killed_one(
    server: EmbeddedPostgres, home: Path
) -> None:
    url = server.ensure_running()
    counting = "SELECT count(*) FROM generate_series(1, 20000000) WHERE random() < 2"
    with subprocess.Popen(
        [server.psql_path, url, "--no-psqlrc", f"--command={counting}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM gen%'"
        while not ask(url, busy):
            pass
        os.kill(postmaster(home), signal.SIGKILL)
        assert server.ensure_running() == url
    assert ask(url, "SELECT 1") == 1


def test_a_stranger_under_the_old_process_id_does_not_block_the_start(
    server: EmbeddedPostgres, home: Path
) -> None:
    url = server.ensure_running()
    os.kill(postmaster(home), signal.SIGKILL)
    wait_until_refused(url)
    pid_file = home / "postgres/data/postmaster.pid"
    _, _, rest = pid_file.read_text().partition("\n")
    pid_file.write_text(f"{os.getpid()}\n{rest}")
    assert not server.is_running()
    assert server.ensure_running() == url


def test_the_server_outlives_ctrl_c_and_the_death_of_its_starter(
    server: EmbeddedPostgres, home: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START + "sys.stdin.read()", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as starter:
        assert starter.stdout
        url = starter.stdout.readline().strip()
        os.killpg(starter.pid, signal.SIGINT)
        os.killpg(starter.pid, signal.SIGKILL)
    assert server.is_running()
    assert ask(url, "SELECT 1") == 1


def test_many_starters_at_once_make_one_server(server: EmbeddedPostgres, home: Path) -> None:
    command = [sys.executable, "-c", START, str(home)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    addresses = {starter.communicate(timeout=120)[0].strip() for starter in starters}
    assert addresses == {server.url()}
    log = "".join(path.read_text() for path in (home / "postgres/data/log").iterdir())
    assert log.count("starting PostgreSQL") == 1


def test_a_port_that_is_held_for_a_moment_stays_the_servers(server: EmbeddedPostgres) -> None:
    before = server.ensure_running()
    server.stop()
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", urlsplit(before).port))
        held.listen()
        threading.Timer(0.5, held.close).start()
        assert server.ensure_running() == before


def test_a_taken_port_is_left_to_its_owner(server: EmbeddedPostgres) -> None:
    before = urlsplit(server.ensure_running()).port
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before or 0))
        other.listen()
        after = server.ensure_running()
    assert urlsplit(after).port != before
    assert ask(after, "SELECT 1") == 1
    server.stop()
    assert server.ensure_running() == after


def test_a_set_up_cut_short_is_done_again(server: EmbeddedPostgres, home: Path) -> None:
    remains = home / "postgres/data.new"
    remains.mkdir(parents=True)
    (remains / "PG_VERSION").write_text("18")
    assert ask(server.ensure_running(), "SELECT 1") == 1


def test_data_of_another_version_is_refused(server: EmbeddedPostgres, home: Path) -> None:
    server.ensure_running()
    server.stop()
    (home / "postgres/data/PG_VERSION").write_text("19\n")
    with pytest.raises(UsageError, match=r"PostgreSQL 19.*CRM_PIPELINE_DATABASE_URL"):
        server.ensure_running()


def test_damaged_data_is_named_with_the_end_of_the_log(
    server: EmbeddedPostgres, home: Path
) -> None:
    server.ensure_running()
    server.stop()
    (home / "postgres/data/global/pg_control").write_bytes(b"")
    with pytest.raises(PermanentError, match=r"(?s)pg_control.*move .* away"):
        server.ensure_running()


def test_a_lost_password_is_named(server: EmbeddedPostgres, home: Path) -> None:
    server.ensure_running()
    password = home / "postgres/password"
    secret = password.read_text()
    password.write_text("wrong")
    with pytest.raises(UsageError, match="Restore that file"):
        server.ensure_running()
    password.write_text(secret)


def test_a_wrong_setting_is_named(home: Path) -> None:
    server = EmbeddedPostgres(home, settings={"work_mem": "a lot"})
    with pytest.raises(PermanentError, match="work_mem"):
        server.ensure_running()


@as_root
def test_root_starts_it_as_somebody_else_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "home", settings=SMALL)
    try:
        assert ask(server.ensure_running(), "SELECT 1") == 1
        process = Path(f"/proc/{postmaster(closed / 'home')}")
        assert process.stat().st_uid != 0
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        server.stop()


@as_root
def test_data_given_to_root_by_mistake_goes_back(server: EmbeddedPostgres, home: Path) -> None:
    server.ensure_running()
    server.stop()
    for path in (home, *home.rglob("*")):
        os.chown(path, 0, 0)
    assert ask(server.ensure_running(), "SELECT 1") == 1


@as_root
def test_without_the_capability_a_closed_folder_gives_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CrmPipelineError, match="CRM_PIPELINE_DATABASE_URL"):
        EmbeddedPostgres(tmp_path / "home").ensure_running()


@as_root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv to become somebody else")
def test_an_ordinary_user_starts_kills_and_stops_it(home: Path) -> None:
    story = """
import os, signal
url = server.ensure_running()
pid_file = Path(sys.argv[1]) / "postgres/data/postmaster.pid"
pid, _, rest = pid_file.read_text().partition("\\n")
assert os.stat(f"/proc/{pid}").st_uid == os.geteuid() == 65534
os.kill(int(pid), signal.SIGKILL)
pid_file.write_text(f"{os.getpid()}\\n{rest}")
assert server.ensure_running() == url
server.stop()
assert not server.is_running()
"""
    home.mkdir()
    os.chown(home, 65534, 65534)
    # The capability only lets this user read the checkout and the interpreter.
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = [*become, sys.executable, "-B", "-c", START + story, str(home)]
    subprocess.run(command, check=True, timeout=120, env={"PATH": os.environ["PATH"]})
