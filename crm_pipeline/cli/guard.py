"""The guard: a process that stops everything that its supervisor started, however that ends.

A supervisor that is killed cannot clean up, so it never does: it writes down what it starts on the
guard's standard input, and the end of that input is the order to stop. One path serves Ctrl-C and
kill -9 alike, and so is taken every day. Databases are stopped last.

    group 4711          a process group, with whatever its processes started
    gone 4711           it has ended by itself
    postgres /folder    an embedded server under that home

Belongs here: stopping. Does not belong here: starting and watching (supervisor.py).
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 6.0
"""How long a group may take to end by itself before it is killed."""


def main() -> None:
    """Read until the supervisor is gone or closes the pipe, then stop what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stop_all(sys.stdin)


def stop_all(lines: Iterable[str]) -> None:
    """Stop what the lines name when they end: the newest first, databases last."""
    started: list[tuple[str, str]] = []
    for line in lines:
        kind, _, name = line.rstrip("\n").partition(" ")
        if kind == "gone":
            with suppress(ValueError):
                started.remove(("group", name))
        else:
            started.append((kind, name))
    started.reverse()
    groups = [int(name) for kind, name in started if kind == "group"]
    # All are asked before the first is waited for: each takes two seconds, and none needs another.
    for group in groups:
        _signal(group, signal.SIGTERM)
    for group in groups:
        _await_end(group)
    for kind, name in started:
        if kind == "postgres":
            _stop_postgres(Path(name))


def stop_group(group: int) -> None:
    """Ask a process group to end, and kill it when it does not."""
    _signal(group, signal.SIGTERM)
    _await_end(group)


def _await_end(group: int) -> None:
    # Asking twice would not help: some programs take a second signal as a reason to start over.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _lives(group):
        if time.monotonic() > deadline:
            _signal(group, signal.SIGKILL)
            return
        time.sleep(0.02)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _lives(group: int) -> bool:
    """Whether the group has a process that is more than a zombie."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    processes = Path("/proc")
    if not processes.exists():
        return True
    return any(_is_alive_in(group, entry) for entry in processes.iterdir() if entry.name.isdigit())


def _is_alive_in(group: int, process: Path) -> bool:
    try:
        _, _, facts = (process / "stat").read_text().rpartition(") ")
    except OSError:
        return False
    state, _, process_group, *_ = facts.split(" ", 3)
    return int(process_group) == group and state not in "ZX"


def _stop_postgres(home: Path) -> None:
    # Imported late: a guard spends its life waiting, and should be small while it does.
    from crm_pipeline.warehouse.embedded import EmbeddedPostgres  # noqa: PLC0415

    EmbeddedPostgres(home).stop()


if __name__ == "__main__":
    main()
