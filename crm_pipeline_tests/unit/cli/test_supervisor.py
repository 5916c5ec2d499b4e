"""What a supervisor starts never outlives it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crm_pipeline.cli.supervisor import Service, Supervisor, supervised
from crm_pipeline.errors import PermanentError

# Says that it is there, and holds the pipe open for as long as it or its own child lives.
SERVICE = 'echo here > "$1"; sleep 600 > "$1" & sleep 600 > "$1"; wait'
SUPERVISOR = """
import sys
from pathlib import Path
from crm_pipeline.cli.supervisor import Service, supervised
with supervised(Path(sys.argv[1]), print) as supervisor:
    supervisor.start(Service("sleeper", ["sh", "-c", sys.argv[3], "sh", sys.argv[2]]))
    sys.stdin.read()
"""


class Life:
    """A named pipe that a service and its children hold open as long as they live."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        # For reading and writing, so that neither opening nor reading waits for the other side.
        self._held = os.open(path, os.O_RDWR)
        self._reading = path.open()

    def await_beginning(self) -> None:
        """Come back when the service has said that it is there."""
        assert self._reading.readline() == "here\n"
        os.close(self._held)

    def await_end(self) -> None:
        """Come back when the last process that holds the pipe has ended."""
        with self._reading as reading:
            assert reading.read() == ""


def sleeper(path: Path) -> Service:
    return Service("sleeper", ["sh", "-c", SERVICE, "sh", str(path)])


def said(_: str) -> None:
    pass


def test_leaving_the_block_ends_services_and_their_children(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    life = Life(path)
    with supervised(tmp_path / "logs", said) as supervisor:
        supervisor.start(sleeper(path))
        life.await_beginning()
    life.await_end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_supervisor_ends_services_and_their_children(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "pipe"
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path / "logs"), str(path), SERVICE]
    life = Life(path)
    supervisor = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    life.await_beginning()
    supervisor.send_signal(number)
    supervisor.communicate()
    life.await_end()


def test_a_dead_service_is_named_with_its_last_words_and_started_again(tmp_path: Path) -> None:
    told: list[str] = []
    with supervised(tmp_path, told.append) as supervisor:
        service = Service("parrot", ["sh", "-c", "echo bereft of life; exit 3"])
        supervisor.start(service)
        assert service.process is not None
        first = service.process.pid
        service.process.wait()
        supervisor.revive()
        assert service.process.pid != first
    assert len(told) == 1
    assert "The parrot ended with code 3" in told[0]
    assert "bereft of life" in told[0]


def test_a_service_that_keeps_dying_stops_everything(tmp_path: Path) -> None:
    def revive_often(supervisor: Supervisor, service: Service) -> None:
        for _ in range(10):
            assert service.process is not None
            service.process.wait()
            supervisor.revive()

    with supervised(tmp_path, said) as supervisor:
        service = Service("parrot", ["false"])
        supervisor.start(service)
        with pytest.raises(PermanentError, match="died 4 times"):
            revive_often(supervisor, service)


def test_waiting_ends_when_a_service_dies(tmp_path: Path) -> None:
    with supervised(tmp_path, said) as supervisor:
        supervisor.start(Service("parrot", ["sh", "-c", "echo the reason; exit 1"]))
        with pytest.raises(PermanentError, match="the reason"):
            supervisor.wait_until(lambda: False, what="It")
