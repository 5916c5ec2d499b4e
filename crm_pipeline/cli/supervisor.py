"""Processes side by side: started, watched, restarted, and stopped together.

Holds the supervisor that `up` and `demo` share. Belongs here: the life of child processes. Does not
belong here: which processes (services.py) and how they end (guard.py).
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from crm_pipeline.cli.guard import stop_group
from crm_pipeline.errors import PermanentError, TransientError

MOST_RESTARTS = 3
RESTART_WINDOW_SECONDS = 120.0
_LINES_SHOWN = 12
# A process begins when the guard knows of it; if we are killed before, it reads the end of the
# pipe and never begins.
_WHEN_TOLD = ("sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")


@dataclass
class Service:
    """One child process.

    Attributes:
        name: what people call it, also the name of its log file.
        command: program and arguments.
        variables: added to its environment.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RESTARTS))

    @property
    def has_ended(self) -> bool:
        """Whether it was started and is gone."""
        return self.process is not None and self.process.poll() is not None


class Supervisor:
    """Starts services, each in a process group of its own, and stops all of them at the end.

    Args:
        logs: folder of the log files.
        say: told about deaths and restarts, a sentence each.
    """

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self._logs = logs
        self._say = say
        self._services: list[Service] = []
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "guard.log").open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "crm_pipeline.cli.guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def log_of(self, service: Service) -> Path:
        """Where a service writes."""
        return self._logs / f"{service.name.replace(' ', '_')}.log"

    def last_lines(self, service: Service) -> str:
        """The end of a service's log."""
        with self.log_of(service).open(encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, maxlen=_LINES_SHOWN)).rstrip()

    def own_postgres(self, home: Path) -> None:
        """Stop the embedded server of that home at the end, after every service."""
        self._tell(f"postgres {home.resolve()}")

    def start(self, service: Service) -> None:
        """Start a service and keep an eye on it."""
        if service not in self._services:
            self._services.append(service)
        with self.log_of(service).open("ab") as log:
            service.process = subprocess.Popen(
                [*_WHEN_TOLD, *service.command],
                env={**os.environ, **service.variables},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell(f"group {service.process.pid}")
        assert service.process.stdin is not None, "it was opened as a pipe"
        with suppress(BrokenPipeError), service.process.stdin as told:
            told.write(b"go\n")

    def wait_until(self, is_ready: Callable[[], bool], *, what: str, seconds: float = 90.0) -> None:
        """Wait for something that the services bring about.

        Raises:
            PermanentError: a service died meanwhile.
            TransientError: it did not come about in time.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            for service in self._services:
                if service.has_ended:
                    raise PermanentError(self._obituary(service))
            if time.monotonic() > deadline:
                raise TransientError(f"{what} did not answer within {seconds:.0f} s.")
            time.sleep(0.05)

    def revive(self) -> None:
        """Start again what has died.

        Raises:
            PermanentError: a service died again and again.
        """
        for service in self._services:
            if service.has_ended:
                self._bury(service)

    def restart(self, service: Service) -> None:
        """Stop a service with everything it started, and start it again."""
        assert service.process is not None, "it was started"
        stop_group(service.process.pid)
        service.process.wait()
        self._tell(f"gone {service.process.pid}")
        self.start(service)

    def _bury(self, service: Service) -> None:
        assert service.process is not None, "it has ended, so it was started"
        now = time.monotonic()
        obituary = self._obituary(service)
        is_hopeless = (
            len(service.deaths) == MOST_RESTARTS
            and now - service.deaths[0] < RESTART_WINDOW_SECONDS
        )
        if is_hopeless:
            raise PermanentError(f"{obituary}\nIt died {MOST_RESTARTS + 1} times in a short while.")
        service.deaths.append(now)
        self._say(f"{obituary}\nStarting it again.")
        self._tell(f"gone {service.process.pid}")
        self.start(service)

    def _obituary(self, service: Service) -> str:
        assert service.process is not None, "it has ended, so it was started"
        code = service.process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return (
            f"The {service.name} {how}; the end of {self.log_of(service)}:\n"
            f"{self.last_lines(service)}"
        )

    def stop(self) -> None:
        """Stop everything in reverse order, and come back when it is done."""
        assert self._guard.stdin is not None, "it was opened as a pipe"
        self._guard.stdin.close()
        while self._guard.poll() is None:
            # Zombies are ours to reap: the guard is no relative of theirs.
            for service in self._services:
                if service.process is not None:
                    service.process.poll()
            time.sleep(0.01)
        for service in self._services:
            if service.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    service.process.wait(timeout=5)

    def _tell(self, line: str) -> None:
        assert self._guard.stdin is not None, "it was opened as a pipe"
        self._guard.stdin.write(f"{line}\n".encode())
        self._guard.stdin.flush()


@contextmanager
def supervised(logs: Path, say: Callable[[str], None]) -> Iterator[Supervisor]:
    """A supervisor for the length of the block; SIGTERM ends the block as Ctrl-C does.

    A second Ctrl-C while stopping changes nothing: stopping is bounded in time.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    supervisor = Supervisor(logs, say)
    try:
        yield supervisor
    finally:
        patient = {
            number: signal.signal(number, signal.SIG_IGN)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        supervisor.stop()
        signal.signal(signal.SIGINT, patient[signal.SIGINT])
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
