"""What happens in an org while nobody resets it: sales people edit, marketing events arrive.

Belongs here: one small moment, and bursts of an exact number of changes. Does not belong here:
what an edit looks like (living_edits.py), the first filling (people.py), timing (the caller's).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.living_edits import EDITS, NEWCOMERS
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people_cast import Cast
from crm_pipeline.sandbox.salesforce.storage import quoted

_BURST_DELETES = {"Lead": 70, "Task": 20, "Contact": 10}
_EDITABLE = {"Lead": " AND IsConverted = 'false'"}  # Salesforce freezes converted leads
_MOMENTS = {
    ("update", "Lead"): 46,
    ("insert", "Lead"): 18,
    ("update", "Opportunity"): 10,
    ("update", "Task"): 8,
    ("update", "Contact"): 6,
    ("insert", "Task"): 4,
    ("update", "CampaignMember"): 3,
    ("update", "Case"): 2,
    ("delete", "Lead"): 2,
    ("undelete", "Lead"): 1,
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened: update, insert, delete or undelete, and of which record."""

    action: str
    object_name: str
    record_id: str
    changed: Mapping[str, Any]

    def __str__(self) -> str:
        """The moment as one line for a terminal."""
        words = ", ".join(f"{name} = {value}" for name, value in self.changed.items())
        return f"{self.action} {self.object_name} {self.record_id} {words}".rstrip()


def live_once(org: SandboxOrg, rng: random.Random) -> Moment:
    """Let one small believable thing happen; where it cannot, a new lead comes in."""
    action, name = rng.choices(list(_MOMENTS), list(_MOMENTS.values()))[0]
    user = _anybody(org, rng)
    if action == "insert":
        return _arrive(org, name, rng, user)
    record_id = _one(org, name, rng, deleted=action == "undelete")
    if record_id is None:
        return _arrive(org, "Lead", rng, user)
    if action == "delete":
        org.delete(name, record_id)
        return Moment(action, name, record_id, {})
    if action == "undelete":
        org.undelete(name, record_id)
        return Moment(action, name, record_id, {})
    changed = EDITS[name][1](org.get(name, record_id) or {}, rng)
    org.update(name, record_id, changed, as_user=user)
    return Moment(action, name, record_id, changed)


def _arrive(org: SandboxOrg, name: str, rng: random.Random, user: str) -> Moment:
    row = NEWCOMERS[name][1](Cast(rng))
    record_id = org.create(name, row, as_user=user)
    return Moment("insert", name, record_id, row)


def _anybody(org: SandboxOrg, rng: random.Random) -> str:
    users = org.query("SELECT Id FROM User WHERE IsActive = TRUE ORDER BY Id")
    return str(rng.choice(users)["Id"]) if users else org.user_id


def _condition(name: str, *, deleted: bool) -> str:
    if deleted:
        return "IsDeleted = 'true'"
    return "IsDeleted = 'false'" + _EDITABLE.get(name, "")


def _one(org: SandboxOrg, name: str, rng: random.Random, *, deleted: bool) -> str | None:
    """Some record of the object, found without counting them all."""
    table, condition = quoted(name), _condition(name, deleted=deleted)
    reader = org.store.reader()
    last = reader.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0
    start = rng.randrange(last + 1)
    for side in ("rowid >= ? ORDER BY rowid", "rowid < ? ORDER BY rowid DESC"):
        found = reader.execute(
            f"SELECT Id FROM {table} WHERE {condition} AND {side} LIMIT 1", (start,)
        ).fetchone()
        if found:
            return str(found[0])
    return None


def apply_burst(
    org: SandboxOrg,
    *,
    updates: int = 0,
    inserts: int = 0,
    deletes: int = 0,
    undeletes: int = 0,
    seed: int = 1,
    object_names: Collection[str] | None = None,
) -> dict[str, Any]:
    """Change exactly so many records at once, each of them one time.

    No record is touched twice: what is updated was neither deleted nor brought back in the
    same burst, and nothing new is edited. Every update changes at least one value. Children
    that go or come back with their parent are counted apart, as `with_parent`.

    Args:
        org: The org to change, in one transaction.
        updates: How many records to edit.
        inserts: How many new records.
        deletes: How many records go to the recycle bin.
        undeletes: How many records that are in the bin now come back.
        seed: Which records and which values.
        object_names: Only these objects; by default all that people work with.

    Returns:
        `updates`, `inserts`, `deletes`, `undeletes` as performed, and `by_object`, which holds
        the same four (where not zero) and `with_parent` for each object.

    Raises:
        ValueError: The org has not enough records for it; nothing is changed.
    """
    burst = _Burst(org, seed, object_names)
    with org.transaction():
        burst.undelete(undeletes)
        burst.delete(deletes)
        burst.update(updates)
        burst.insert(inserts)
    return {
        "updates": updates,
        "inserts": inserts,
        "deletes": deletes,
        "undeletes": undeletes,
        "by_object": {name: dict(one) for name, one in sorted(burst.done.items())},
    }


class _Burst:
    """One burst: who was touched, and how many of what."""

    def __init__(self, org: SandboxOrg, seed: int, names: Collection[str] | None) -> None:
        unknown = sorted(set(names or ()) - EDITS.keys())
        if unknown:
            raise ValueError(f"no believable edits for {', '.join(unknown)}; try {sorted(EDITS)}")
        self.org = org
        self.rng = random.Random(seed)
        self.names = list(EDITS) if names is None else sorted(names)
        self.limited = names is not None
        self.touched: set[str] = set()
        self.done: dict[str, Counter[str]] = defaultdict(Counter)
        self.user = _anybody(org, self.rng)

    def _ids(self, name: str, *, deleted: bool) -> list[str]:
        rows = self.org.store.reader().execute(
            f"SELECT Id FROM {quoted(name)} WHERE {_condition(name, deleted=deleted)} ORDER BY Id"
        )
        return [row[0] for row in rows if row[0] not in self.touched]

    def _shares(
        self, wanted: int, weights: Mapping[str, int], ids: dict[str, list[str]]
    ) -> Counter[str]:
        """How many from each object: by weight, never more than there are, exactly so many."""
        free = {name: len(found) for name, found in ids.items()}
        if wanted > sum(free.values()):
            raise ValueError(f"{wanted} records wanted, {sum(free.values())} there are: {free}")
        shares: Counter[str] = Counter()
        while (missing := wanted - shares.total()) > 0:
            open_names = [name for name in free if shares[name] < free[name]]
            chances = [weights.get(name, 1) for name in open_names]
            for name, share in Counter(self.rng.choices(open_names, chances, k=missing)).items():
                shares[name] = min(free[name], shares[name] + share)
        return shares

    def undelete(self, wanted: int) -> None:
        """Bring records back that were in the bin before this burst."""
        self._move(
            wanted, {name: self._ids(name, deleted=True) for name in self._movable()}, "undeletes"
        )

    def delete(self, wanted: int) -> None:
        """Put records into the bin."""
        self._move(
            wanted, {name: self._ids(name, deleted=False) for name in self._movable()}, "deletes"
        )

    def _movable(self) -> list[str]:
        objects = self.names if self.limited else list(_BURST_DELETES)
        return [name for name in objects if self.org.catalogue.object(name).undeletable]

    def _move(self, wanted: int, ids: dict[str, list[str]], action: str) -> None:
        """Delete or undelete; one that already went with its parent is replaced by another."""
        move = self.org.delete if action == "deletes" else self.org.undelete
        before = self._alive_children()
        while wanted > 0:
            for name, share in self._shares(wanted, _BURST_DELETES, ids).items():
                chosen = self.rng.sample(ids[name], share)
                for record_id in chosen:
                    try:
                        move(name, record_id)
                    except OrgError:
                        continue
                    self.done[name][action] += 1
                    wanted -= 1
                self.touched.update(chosen)
                ids[name] = [one for one in ids[name] if one not in self.touched]
        self._count_children(before, action)

    def _alive_children(self) -> dict[str, set[str]]:
        """The records that may go or come back because their parent does."""
        names = {child for one in self.org.catalogue.all() for child, _ in one.cascade}
        reader = self.org.store.reader()
        return {
            name: {
                row[0]
                for row in reader.execute(
                    f"SELECT Id FROM {quoted(name)} WHERE IsDeleted = 'false'"
                )
            }
            for name in EDITS
            if name in names
        }

    def _count_children(self, before: dict[str, set[str]], action: str) -> None:
        """Count what moved with its parent, and leave it alone for the rest of the burst."""
        for name, after in self._alive_children().items():
            moved = after ^ before[name]
            self.touched |= moved
            with_parent = len(moved) - self.done[name][action]
            if with_parent:
                self.done[name]["with_parent"] += with_parent

    def update(self, wanted: int) -> None:
        """Edit records."""
        ids = {name: self._ids(name, deleted=False) for name in self.names}
        weights = {name: weight for name, (weight, _) in EDITS.items()}
        for name, share in self._shares(wanted, weights, ids).items():
            edit = EDITS[name][1]
            chosen = self.rng.sample(ids[name], share)
            self.org.update_many(name, chosen, partial(edit, rng=self.rng), as_user=self.user)
            self.done[name]["updates"] += share

    def insert(self, wanted: int) -> None:
        """Let new records arrive."""
        able = {name: weight for name, (weight, _) in NEWCOMERS.items() if name in self.names}
        if wanted and not able:
            raise ValueError(f"no newcomers for {self.names}; try {sorted(NEWCOMERS)}")
        cast = Cast(self.rng)
        shares = Counter(
            self.rng.choices(list(able), list(able.values()), k=wanted) if wanted else ()
        )
        for name, share in shares.items():
            rows = [NEWCOMERS[name][1](cast) for _ in range(share)]
            self.org.create_many(name, rows, as_user=self.user)
            self.done[name]["inserts"] += share
