"""Processes that are made to die: a warm server forks one for each kill, in milliseconds.

Run as a program it is that server: it has imported everything, holds no thread and no connection,
and forks a child for every order that it reads. The child wraps our functions, in itself alone, and
dies where it was told to: production code has no hook for it.

Belongs here: the orders, the fork, the points. Does not belong here: what must be true afterwards
(crash.py), kills from outside (proxies.py).
"""

import functools
import importlib
import inspect
import os
import pkgutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, BinaryIO, NoReturn

import orjson
import psycopg
import stamina

import crm_pipeline.sync
import crm_pipeline.warehouse
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline_tests.reliability.engines import Act, Place, engine_at
from crm_pipeline_tests.reliability.server import ProofServer

ATTEMPTS = 6
PATIENCE_SECONDS = 60
"""After which a child that hangs is ended by SIGALRM, which no matrix forgives."""
_ROOMS: tuple[ModuleType, ...] = (crm_pipeline.sync, crm_pipeline.warehouse)
_NOT_IN_A_SYNC = ("embedded", "migrat", "assembly", "preflight", "reference")
_FOREIGN: tuple[tuple[type, str], ...] = (
    (psycopg.Connection, "commit"),
    (psycopg.Connection, "rollback"),
    (SalesforceSession, "request"),
    (SalesforceSession, "open_stream"),
)


@dataclass(frozen=True)
class Blow:
    """Where and how a process dies.

    Attributes:
        point: the full name of a function; empty for a blow that comes from outside.
        after: behind its end instead of before its beginning.
        nth: at which of its calls.
        kind: `kill`, `term` or `postgres`.
    """

    point: str = ""
    after: bool = False
    nth: int = 1
    kind: str = "kill"

    def __str__(self) -> str:
        """As a person would say it."""
        where = "after" if self.after else "before"
        return f"{self.kind} {where} call {self.nth} of {self.point}"


@dataclass(frozen=True)
class Order:
    """What a child is to do.

    Attributes:
        records_calls: answer with the name of every function that was called.
        server_home: of the PostgreSQL that a blow may stop.
        stays: no child; the server itself does it, as a process that lives for weeks would.
    """

    place: Place
    act: Act
    run_id: str
    blow: Blow | None = None
    records_calls: bool = False
    server_home: str = ""
    stays: bool = False


@dataclass(frozen=True)
class End:
    """How a child ended: `committed`, the sentence of its error, or a signal.

    Attributes:
        calls: names of functions, if the order asked for them.
        peak_kb: the most memory that it had, with what it shares with the warm server.
    """

    status: str
    calls: tuple[str, ...] = ()
    peak_kb: int = 0


class Victims:
    """The client's side of the warm server."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def begin(self, order: Order) -> int:
        """Fork a child that carries out an order; returns its process id."""
        self._write(orjson.dumps(asdict(order)))
        return int(self._read()["pid"])

    def end(self) -> End:
        """Wait for the child."""
        answer = self._read()
        return End(answer["status"], tuple(answer["calls"]), answer.get("peak", 0))

    def carry_out(self, order: Order) -> End:
        """Both."""
        self.begin(order)
        return self.end()

    def memory(self) -> int:
        """Resident memory of the server itself, in kB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server of the victims has died"
        answer: dict[str, Any] = orjson.loads(line)
        return answer


@contextmanager
def victims() -> Iterator[Victims]:
    """A warm server of victims."""
    server = Victims()
    try:
        yield server
    finally:
        server.close()


# The server's side


def serve() -> None:
    """Read orders and fork until the input ends."""
    stamina.set_testing(True, attempts=ATTEMPTS, cap=True)
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # log lines of a child are no answers
    for line in sys.stdin.buffer:
        told = orjson.loads(line)
        order = Order(
            Place(**told["place"]),
            Act(**told["act"]),
            told["run_id"],
            Blow(**told["blow"]) if told["blow"] else None,
            told["records_calls"],
            told["server_home"],
            told["stays"],
        )
        if order.stays:
            _say(answers, {"pid": os.getpid()})
            _say(answers, {"status": _carried_out(order), "calls": ()})
            continue
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(order, writing)
        os.close(writing)
        _say(answers, {"pid": pid})
        with os.fdopen(reading, "rb") as pipe:
            words = pipe.read()
        _, status, used = os.wait4(pid, 0)
        _say(answers, {**_ended(words, status), "peak": used.ru_maxrss})


def _carried_out(order: Order) -> str:
    try:
        with engine_at(order.place) as engine:
            order.act.run(engine, order.run_id)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "committed"


def _ended(words: bytes, status: int) -> dict[str, Any]:
    if os.WIFSIGNALED(status):
        return {"status": signal.Signals(os.WTERMSIG(status)).name, "calls": ()}
    found: dict[str, Any] = orjson.loads(words) if words else {"status": "silent", "calls": ()}
    return found


def _say(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(orjson.dumps(answer) + b"\n")
    answers.flush()


def _child(order: Order, writing: int) -> NoReturn:
    # Dagster and the shell turn SIGTERM into an exception of the main thread.
    signal.signal(signal.SIGTERM, _leave)
    signal.alarm(PATIENCE_SECONDS)
    calls: list[str] = []
    status = "committed"
    try:
        if order.records_calls:
            _wrap_everything(calls.append)
        elif order.blow is not None:
            _arm(order.blow, order.server_home)
        with engine_at(order.place) as engine:
            order.act.run(engine, order.run_id)
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"
    with suppress(OSError), os.fdopen(writing, "wb") as pipe:
        pipe.write(orjson.dumps({"status": status, "calls": calls}))
    os._exit(0)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit("told to stop")


def _arm(blow: Blow, server_home: str) -> None:
    """Wrap the one function at which this process dies."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def strike() -> None:
        if blow.kind == "postgres":
            ProofServer(Path(server_home)).restart_immediately()
        else:
            os.kill(os.getpid(), signal.SIGKILL if blow.kind == "kill" else signal.SIGTERM)

    def is_due(name: str) -> bool:
        with lock:
            seen[name] += 1
            return seen[name] == blow.nth

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def struck(*arguments: Any, **named: Any) -> Any:
            due = is_due(name)
            if due and not blow.after:
                strike()
            result = function(*arguments, **named)
            if due and blow.after:
                strike()
            return result

        return struck

    _replace_functions(lambda name: name == blow.point, wrap)


def _wrap_everything(note: Callable[[str], None]) -> None:
    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(*arguments: Any, **named: Any) -> Any:
            note(name)
            return function(*arguments, **named)

        return noted

    _replace_functions(lambda _: True, wrap)


def _replace_functions(
    is_wanted: Callable[[str], bool],
    wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]],
) -> None:
    """Put a wrapper in the place of functions, wherever they were imported to."""
    modules = [m for name, m in sys.modules.items() if name.startswith("crm_pipeline.")]
    for name, holder, attribute, function in list(_functions()):
        if not is_wanted(name):
            continue
        wrapped = wrap(name, function)
        setattr(holder, attribute, wrapped)
        for module in modules:
            for key, value in list(vars(module).items()):
                if value is function:
                    setattr(module, key, wrapped)


def _functions() -> Iterator[tuple[str, Any, str, Callable[..., Any]]]:
    """Every function of the rooms that a sync goes through, found as they are today."""
    for room in _ROOMS:
        for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            if found.name.rpartition(".")[2].startswith(_NOT_IN_A_SYNC):
                continue
            module = importlib.import_module(found.name)
            short = found.name.removeprefix("crm_pipeline.")
            yield from _functions_in(module, module, short)
    for holder, attribute in _FOREIGN:
        yield f"{holder.__name__}.{attribute}", holder, attribute, getattr(holder, attribute)


def _functions_in(
    module: ModuleType, holder: Any, prefix: str
) -> Iterator[tuple[str, Any, str, Callable[..., Any]]]:
    for name, value in list(vars(holder).items()):
        if getattr(value, "__module__", None) != module.__name__ or name.startswith("__"):
            continue
        if inspect.isfunction(value):
            yield f"{prefix}.{name}", holder, name, value
        elif inspect.isclass(value) and holder is module:
            yield from _functions_in(module, value, f"{prefix}.{name}")


if __name__ == "__main__":
    serve()
