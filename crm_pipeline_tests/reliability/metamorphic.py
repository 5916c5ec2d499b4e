"""Two ways to the same place: pairs of histories whose tables must be equal.

Belongs here: the pairs. Does not belong here: comparing with the org (lab.py).
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.engines import Act, engine_at, settings_text
from crm_pipeline_tests.reliability.lab import OVERLAP_SECONDS, Lab, lab, objects
from crm_pipeline_tests.reliability.server import ProofServer

NAMES = ("Account", "Contact", "Lead")
ROUNDS = 3


def _sync(lab_: Lab, verb: str, *, times: int = 1) -> None:
    with engine_at(lab_.place) as engine:
        for _ in range(times):
            for name in NAMES:
                Act(verb, name).run(engine, "run")


def _sync_under_faults(lab_: Lab, verb: str, rng: random.Random) -> None:
    """As often as it takes."""
    faults = lab_.served.server.faults
    for name in NAMES:
        for _ in range(3):
            kind = rng.choice(("status", "reset", "lost_answer", "html", "expire_session"))
            nth, times = rng.randint(1, 6), rng.choice((1, 0))
            plan = {"kind": kind, "path": "/services/data/*", "times": times}
            faults.script([plan if times == 0 else {**plan, "nth": nth}])
            with suppress(CrmPipelineError), engine_at(lab_.place) as engine:
                Act(verb, name).run(engine, "run")
            faults.clear()
        with engine_at(lab_.place) as engine:
            Act(verb, name).run(engine, "run")


@contextmanager
def _twin(server: ProofServer, made: Lab, transport: str = "auto") -> Iterator[Lab]:
    database = server.copy()
    try:
        yield made.at(database, settings=settings_text(objects(transport)))
    finally:
        server.drop(database)


def _differing(one: Lab, other: Lab) -> list[str]:
    """Living rows in full; of a tombstone the mark, for its values are those that were seen last.

    A record that came and went between two syncs was never seen, and nobody promised it.
    """
    wrong = []
    for name in NAMES:
        wrong += one.differences(name) + other.differences(name)
        left, right = one.marks(name), other.marks(name)
        both = left.keys() & right.keys()
        left, right = ({key: side[key] for key in both} for side in (left, right))
        wrong += [f"{name} {key}" for key in left | right if left.get(key) != right.get(key)]
    return wrong


def _histories(
    server: ProofServer,
    seed: int,
    one_way: Callable[[Lab, bool], None],
    other_way: Callable[[Lab, bool], None],
    transports: tuple[str, str] = ("auto", "auto"),
) -> list[str]:
    """Both ways over the same edits; each is told whether it is the last round."""
    with ExitStack() as stack:
        made = stack.enter_context(lab(server))
        one = stack.enter_context(_twin(server, made, transports[0]))
        other = stack.enter_context(_twin(server, made, transports[1]))
        edits.fill(made.org, 60)
        for lab_ in (one, other):
            _sync(lab_, "full")
        for number in range(ROUNDS):
            made.org.clock.advance(2 * OVERLAP_SECONDS)
            edits.one_of_every_kind(made.org, seed + number)
            made.org.clock.advance(2 * OVERLAP_SECONDS)
            is_last = number == ROUNDS - 1
            one_way(one, is_last)
            other_way(other, is_last)
        return _differing(one, other)


def rest_equals_bulk(server: ProofServer, seed: int) -> list[str]:
    """Both transports bring the same bytes."""

    def sync(lab_: Lab, _: object) -> None:
        _sync(lab_, "differential")

    return _histories(server, seed, sync, sync, ("rest", "bulk"))


def one_big_sync_equals_many_small(server: ProofServer, seed: int) -> list[str]:
    """One differential over a day reads what many small ones read."""

    def small(lab_: Lab, _: object) -> None:
        _sync(lab_, "differential")

    def big(lab_: Lab, is_last: object) -> None:
        if is_last:
            _sync(lab_, "differential")

    return _histories(server, seed, small, big)


def twice_equals_once(server: ProofServer, seed: int) -> list[str]:
    """A second sync changes nothing."""

    def once(lab_: Lab, _: object) -> None:
        _sync(lab_, "differential")

    def twice(lab_: Lab, _: object) -> None:
        _sync(lab_, "differential", times=2)

    return _histories(server, seed, once, twice)


def a_healed_run_equals_a_clean_one(server: ProofServer, seed: int) -> list[str]:
    """Faults on the way leave no trace."""
    rng = random.Random(seed)

    def clean(lab_: Lab, _: object) -> None:
        _sync(lab_, "differential")

    def faulted(lab_: Lab, _: object) -> None:
        _sync_under_faults(lab_, "differential", rng)

    return _histories(server, seed, clean, faulted)


PAIRS: dict[str, Callable[[ProofServer, int], list[str]]] = {
    "REST = Bulk": rest_equals_bulk,
    "one big sync = many small": one_big_sync_equals_many_small,
    "twice = once": twice_equals_once,
    "faulted and healed = clean": a_healed_run_equals_a_clean_one,
}
