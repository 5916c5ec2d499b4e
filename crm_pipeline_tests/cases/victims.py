"""Syncs in processes of their own, which die when they are told to.

Holds a fork server that has imported everything once, so that the fiftieth death costs a fraction
of a second. Belongs here: running an engine elsewhere. Does not belong here: what is expected of
it (test_*.py).
"""

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from crm_pipeline.model.sync import Progress, SyncMode
from crm_pipeline.sync.assembly import Installation

_OURS = ("CRM_PIPELINE", "SALESFORCE")
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Death:
    """When a process dies, and of what."""

    after_pages: int
    by: int = signal.SIGKILL


def in_own_process(work: Callable[..., Any], *arguments: Any) -> tuple[int | None, Any]:
    """Call a function in a process of its own.

    Returns:
        The exit code, negative for a signal, and what the function returned, if it came so far.
    """
    ours, theirs = _forks.Pipe(duplex=False)
    environment = {name: os.environ[name] for name in os.environ if name.startswith(_OURS)}
    process = _forks.Process(target=_called, args=(theirs, environment, work, arguments))
    process.start()
    theirs.close()
    with ours:
        try:
            answer = ours.recv()
        except EOFError:
            answer = None
    process.join(120)
    code = process.exitcode
    process.close()
    return code, answer


def _called(
    answers: Connection,
    environment: dict[str, str],
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers.send(work(*arguments))


def sync(name: str, mode: SyncMode, death: Death | None = None) -> int:
    """A sync that dies after some of its pages, if it has so many; returns the records read."""
    pages = count(1)  # two threads report; each page has a number of its own

    def report(_: Progress) -> None:
        if death is not None and next(pages) == death.after_pages:
            os.kill(os.getpid(), death.by)

    with Installation.from_environment().engine() as engine:
        run_id = f"victim {os.getpid()}"
        return engine.sync_object(name, mode=mode, run_id=run_id, report=report).records_read


def sync_whose_main_thread_sleeps_on(name: str, mode: SyncMode, after_pages: int) -> int:
    """A sync that is interrupted while its main thread waits, and is not woken by it.

    It happens by itself now and then: a signal that comes just before the thread falls asleep.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pages = count(1)

    def report(_: Progress) -> None:
        if next(pages) == after_pages:
            # Only this thread takes it, so the main thread is told without being woken.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            os.kill(os.getpid(), signal.SIGINT)

    with Installation.from_environment().engine() as engine:
        run_id = f"victim {os.getpid()}"
        return engine.sync_object(name, mode=mode, run_id=run_id, report=report).records_read


def sync_without_files(name: str, mode: SyncMode) -> int:
    """A sync by a process in which every write to a file fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return sync(name, mode)


def peak_kilobytes_of_sync(name: str, mode: SyncMode, most_megabytes: int) -> int:
    """A sync in a process that may address so much memory; returns its peak in memory."""
    limit = most_megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sync(name, mode)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def die_in(name: str, mode: SyncMode, death: Death) -> None:
    """A sync that must end by the signal that it was meant for."""
    code, _ = in_own_process(sync, name, mode, death)
    expected = {signal.SIGINT: 1}.get(signal.Signals(death.by), -death.by)
    assert code == expected, f"ended with {code}"
