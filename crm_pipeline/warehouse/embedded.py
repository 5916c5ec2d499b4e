"""The embedded PostgreSQL: the warehouse of everybody who brings no server of their own.

Holds the life of one local server under one home folder: set up, start, stop, mend what a crash or
a reboot left behind. Belongs here: that server's files, settings and states. Does not belong here:
how its programs are found and run (embedded_process.py), what is inside its databases (migrate.py,
schema.py), an operator's server (connection.py), and the choice between the two (config/).
"""

import fcntl
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CompletedProcess

import psycopg

from crm_pipeline.errors import PermanentError, TransientError, UsageError
from crm_pipeline.warehouse.embedded_process import (
    BRING_YOUR_OWN,
    MAJOR_VERSION,
    Account,
    binaries,
    choose_account,
    command_line,
    port_is_free,
)

DATABASES = ("crm_pipeline", "dagster")
_ROLE = "crm_pipeline"
_PORT_SECONDS = 5
_READY_SECONDS = 300  # replaying 4 GB of log after a crash takes minutes on a small disk
_NO_PROCESS = 2**31 - 1  # above every kernel's highest process id
_SETTINGS_FILE = "embedded.conf"


class EmbeddedPostgres:
    """One local server; its data, password and port stand under `home/postgres`.

    The server outlives the process that starts it; `stop` ends it. Every method may be called by
    many processes at once.
    """

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._folder = home.resolve() / "postgres"
        self._data = self._folder / "data"
        self._password = self._folder / "password"
        self._port = self._folder / "port"
        self._settings = dict(settings or {})

    @property
    def psql_path(self) -> Path:
        """The psql of the server's own version."""
        return binaries() / "psql"

    def url(self, database: str = DATABASES[0]) -> str:
        """The address of a database, password included.

        Raises:
            UsageError: there is no server yet, or its password or port file is lost.
        """
        try:
            password, port = self._password.read_text(), int(self._port.read_text())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"There is no usable embedded PostgreSQL in {self._folder} ({error}). Start it, or "
                f"restore that file from your backup. {BRING_YOUR_OWN}"
            ) from error
        return f"postgresql://{_ROLE}:{password}@127.0.0.1:{port}/{database}"

    def is_running(self) -> bool:
        """Whether the process named in the data folder lives and really is this server."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().partition("\n")[0])
        except (OSError, ValueError):
            return False
        return str(self._data) in command_line(pid)

    def ensure_running(self) -> str:
        """Set up what is missing, start the server unless it runs, and return its address.

        Raises:
            UsageError: the operator must choose another folder, version or server.
            TransientError: the server is still recovering from a crash.
            PermanentError: the server cannot start; the message carries the end of its log.
        """
        with self._locked():
            if not self._answers():
                account = choose_account(self._data, self._folder)
                try:
                    self._prepare(account)
                    self._start(account)
                except OSError as error:
                    raise PermanentError(self._advice(str(error))) from error
                if not self._answers():
                    raise PermanentError(self._advice(self._log_lines()))
            with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
                rows = connection.execute("SELECT datname FROM pg_database").fetchall()
                for name in set(DATABASES) - {row[0] for row in rows}:
                    connection.execute(f'CREATE DATABASE "{name}"'.encode())
            return self.url()

    def stop(self) -> None:
        """Stop the server if it runs: clients are cut off, what was committed is safe.

        Raises:
            TransientError: it did not end in time, most likely busy writing to a slow disk.
        """
        with self._locked():
            if self.is_running():
                account = choose_account(self._data, self._folder)
                answer = self._control(account, "stop", "--mode=fast")
                if answer.returncode != 0:
                    raise TransientError(f"PostgreSQL did not stop: {answer.stderr.strip()}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("a")
        except OSError as error:
            raise UsageError(
                f"{self._folder} cannot be used: {error.strerror}. Run as the user who created it, "
                f"or choose another folder. {BRING_YOUR_OWN}"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prepare(self, account: Account) -> None:
        version = self._data / "PG_VERSION"
        if not version.exists():
            self._initialise(account)
        elif (found := version.read_text().strip()) != str(MAJOR_VERSION):
            raise UsageError(
                f"{self._data} was written by PostgreSQL {found}; this is PostgreSQL "
                f"{MAJOR_VERSION}. Use the CRM Pipeline that wrote it, or move the folder away and "
                f"run a full sync. {BRING_YOUR_OWN}"
            )
        elif self._data.stat().st_uid == 0:
            account.own(self._data, *self._data.rglob("*"))

    def _initialise(self, account: Account) -> None:
        if not self._password.exists():
            _write_secret(self._password, secrets.token_urlsafe(24))
        new, secret = self._folder / "data.new", self._folder / "password.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        _write_secret(secret, self._password.read_text())
        account.own(new, secret)
        arguments = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        arguments += ["--builtin-locale=C.UTF-8", "--data-checksums", f"--pgdata={new}"]
        arguments += [f"--username={_ROLE}", f"--pwfile={secret}", "--auth=scram-sha-256"]
        answer = account.run("initdb", *arguments, folder=self._folder)
        secret.unlink()
        if answer.returncode != 0:
            raise PermanentError(self._advice(answer.stderr))
        with (new / "postgresql.conf").open("a") as configuration:
            configuration.write(f"include = '{_SETTINGS_FILE}'\n")
        new.rename(self._data)  # all or nothing: a set-up cut short is done again

    def _start(self, account: Account) -> None:
        log = self._data / "startup.log"
        deadline = time.monotonic() + 30
        while True:
            self._write_settings(account, port := self._free_port())
            self._disarm_pid_file()
            log.unlink(missing_ok=True)
            answer = self._control(account, "start", f"--log={log}")
            if answer.returncode == 0:
                return
            if self.is_running():
                raise TransientError(
                    f"PostgreSQL is still recovering after {_READY_SECONDS} s. Try again later; "
                    f"its log is in {self._data / 'log'}."
                )
            reason = self._log_lines() or answer.stderr
            # Backends of a killed server take a moment to notice, and a port is lost in a race.
            passing = "shared memory block" in reason or not port_is_free(port)
            if not passing or time.monotonic() > deadline:
                raise PermanentError(self._advice(reason))
            time.sleep(0.1)

    def _control(self, account: Account, action: str, option: str) -> CompletedProcess[str]:
        common = (f"--pgdata={self._data}", "--wait", f"--timeout={_READY_SECONDS}", "--silent")
        return account.run("pg_ctl", action, option, *common, folder=self._folder)

    def _free_port(self) -> int:
        with suppress(OSError, ValueError):
            port = int(self._port.read_text())
            # Whoever knows the address knows this port, and what a killed server leaves behind may
            # hold it for a moment.
            deadline = time.monotonic() + _PORT_SECONDS
            while not (is_free := port_is_free(port)) and time.monotonic() < deadline:
                time.sleep(0.05)
            if is_free:
                return port
        while not port_is_free(port := 20_000 + secrets.randbelow(12_000)):
            pass  # outgoing connections take their ports above this range
        self._port.write_text(str(port))
        return port

    def _write_settings(self, account: Account, port: int) -> None:
        settings = {**self._settings, "port": str(port)}
        shared = Path("/dev/shm")  # noqa: S108 - containers give 64 MB, too little for an index
        if shared.exists() and shutil.disk_usage(shared).total < 2**30:
            settings.setdefault("dynamic_shared_memory_type", "sysv")
        lines = [Path(__file__).with_name(_SETTINGS_FILE).read_text()]
        for name, value in settings.items():
            lines.append("{} = '{}'\n".format(name, value.replace("'", "''")))
        path = self._data / _SETTINGS_FILE
        path.write_text("".join(lines))
        account.own(path)

    def _disarm_pid_file(self) -> None:
        # PostgreSQL believes any live process of that id: a zombie, a stranger after a reboot. The
        # rest of the file stays, it guards the data against backends that are still writing.
        path = self._data / "postmaster.pid"
        if path.exists():
            _, _, rest = path.read_text().partition("\n")
            path.write_text(f"{_NO_PROCESS}\n{rest}")

    def _answers(self) -> bool:
        # Waits for a server that is starting; one that is dying still counts as running at first.
        deadline = time.monotonic() + _READY_SECONDS
        while self.is_running():
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=10).close()
            except psycopg.OperationalError as error:
                if "authentication failed" in str(error):
                    raise UsageError(
                        f"The password in {self._password} is not the server's. Restore that file "
                        f"from your backup. {BRING_YOUR_OWN}"
                    ) from error
                if time.monotonic() > deadline:
                    raise TransientError(f"PostgreSQL does not answer yet: {error}") from error
                time.sleep(0.05)
            else:
                return True
        return False

    def _log_lines(self) -> str:
        logs = sorted(self._data.glob("log/*.log"), key=lambda path: path.stat().st_mtime)
        logs = [path for path in (self._data / "startup.log", *logs[-1:]) if path.exists()]
        ends = [path.read_text(errors="replace").splitlines()[-12:] for path in logs]
        return "\n".join(line for lines in ends for line in lines)

    def _advice(self, reason: str) -> str:
        cure = f"If the data is damaged, move {self._data} away: a full sync fills a new one."
        if "No space left" in reason:
            cure = f"Free disk space for {self._folder} and start again."
        return f"The embedded PostgreSQL cannot start:\n{reason.strip()}\n{cure} {BRING_YOUR_OWN}"


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)
