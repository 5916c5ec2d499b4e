"""The model test: random lives of an org and its pipeline, and the oracle after every step.

Belongs here: the state machine and its invariants. Does not belong here: crashes of processes
(crash.py); here, syncs are stopped between their pages.

The promises that hold after every act: a row's stamp never falls, no row is lost, whatever failed
left the table as it was, and everything that was committed before the watermark is there. At the
end everything heals, syncs run until they are quiet, and every table equals the org, cell by cell,
with the right mark on every row that vanished.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from crm_pipeline.errors import CrmPipelineError, MassDisappearance
from crm_pipeline.model.sync import Progress, SyncMode, SyncOutcome
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.transactions import OpenTransaction
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.engines import engine_at
from crm_pipeline_tests.reliability.lab import FIELDS, OVERLAP_SECONDS, Lab, lab
from crm_pipeline_tests.reliability.server import ProofServer

NAMES = tuple(FIELDS)
MERGEABLE = ("Account", "Contact", "Lead")
HIDEABLE = (("Lead", "AnnualRevenue"), ("Contact", "Email"), ("Account", "Industry"))
PAUSES = (1, 30, 300, 1_200, 3_600, 86_400, 20 * 86_400)
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 503},
    {"kind": "reset"},
    {"kind": "lost_answer"},
    {"kind": "html"},
    {"kind": "cut", "after_bytes": 40},
    {"kind": "expire_session"},
)
_CHANGED = {
    "Lead": ("Company", "AnnualRevenue", "HasOptedOutOfEmail"),
    "Contact": ("LastName", "Email", "HasOptedOutOfEmail"),
    "Account": ("Name", "Industry", "AnnualRevenue"),
}
_CRM_FAULT = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(FAULTS), st.integers(1, 8), st.sampled_from((1, 1, 0))),
)
_WHICH = st.integers(0, 10_000)
_NAME = st.sampled_from(NAMES)


class Killed(BaseException):
    """The process was stopped between two pages."""


class Life(RuleBasedStateMachine):
    """One org, one warehouse, sixty steps."""

    server: ClassVar[ProofServer]

    def __init__(self) -> None:
        """Make an org with a handful of records, and sync it once."""
        super().__init__()
        self._open = ExitStack()
        self.lab: Lab = self._open.enter_context(lab(self.server, bulk_page_records=5))
        self.org = self.lab.org
        self.warehouse = Warehouse(self.lab.place.database_url)
        self._open.enter_context(self.warehouse.reusing_connections())
        self.engine: SyncEngine = self._open.enter_context(
            engine_at(self.lab.place, self.warehouse)
        )
        self.stamps: dict[str, dict[str, datetime]] = {name: {} for name in NAMES}
        self.late: dict[str, set[str]] = {name: set() for name in NAMES}
        self.transactions: list[tuple[OpenTransaction, str, str, datetime]] = []
        self.hidden: set[tuple[str, str]] = set()
        self.numbers = 1_000
        self.runs = 0

    @initialize(records=st.integers(3, 12))
    def begin(self, records: int) -> None:
        """Fill the org and read everything."""
        edits.fill(self.org, records)
        for name in NAMES:
            self._sync(name, SyncMode.FULL)

    # What people do

    @rule(name=_NAME, which=_WHICH, field=st.integers(0, 2))
    def update(self, name: str, which: int, field: int) -> None:
        """Somebody edits a record; now and then the system does."""
        moved = "system" if which % 5 == 0 else "all"
        column = _CHANGED[name][field]
        self._edit(
            name,
            which,
            lambda one: self.org.update(
                name, one, {column: self._value(column, which)}, stamps=moved
            ),
        )

    @rule(name=_NAME)
    def insert(self, name: str) -> None:
        """Somebody creates a record."""
        self.numbers += 1
        number = self.numbers
        values: dict[str, dict[str, Any]] = {
            "Lead": edits.lead(number, is_target=number % 4 != 0),
            "Contact": {"LastName": f"Contact {number}"},
            "Account": {"Name": f"Account {number}"},
        }
        self.org.create(name, values[name])

    @rule(name=_NAME, which=_WHICH)
    def delete(self, name: str, which: int) -> None:
        """Into the recycle bin, with what hangs on it."""
        self._edit(name, which, lambda one: self.org.delete(name, one))

    @rule(name=_NAME, which=_WHICH)
    def undelete(self, name: str, which: int) -> None:
        """Out of it again."""
        self._edit(name, which, lambda one: self.org.undelete(name, one), deleted=True)

    @rule(name=_NAME, which=_WHICH, deleted=st.booleans())
    def purge(self, name: str, which: int, deleted: bool) -> None:  # noqa: FBT001 - a strategy
        """Gone for good."""
        self._edit(name, which, lambda one: self.org.hard_delete(name, one), deleted=deleted)

    @rule(name=_NAME)
    def empty_bin(self, name: str) -> None:
        """Everything deleted is gone for good."""
        self.org.empty_bin(name)

    @rule(name=st.sampled_from(MERGEABLE), which=_WHICH)
    def merge(self, name: str, which: int) -> None:
        """Two become one."""
        living = edits.ids(self.org, name)
        if len(living) > 1:
            winner, loser = living[which % len(living)], living[(which + 1) % len(living)]
            with suppress(OrgError):
                self.org.merge(name, winner, [loser])

    @rule(which=_WHICH)
    def convert(self, which: int) -> None:
        """A lead becomes a contact."""
        self._edit("Lead", which, lambda one: self.org.convert_lead(one, opportunity=False))

    @rule(which=_WHICH)
    def move_over_the_filter(self, which: int) -> None:
        """A lead leaves the filter, or enters it."""
        leads = self.org.query("SELECT Id, Is_Target__c FROM Lead ORDER BY Id")
        if leads:
            lead = leads[which % len(leads)]
            with suppress(OrgError):
                self.org.update("Lead", str(lead["Id"]), {"Is_Target__c": not lead["Is_Target__c"]})

    @rule(which=_WHICH, creates=st.booleans(), name=_NAME)
    def begin_a_long_transaction(self, which: int, creates: bool, name: str) -> None:  # noqa: FBT001 - a strategy
        """Stamped now, visible later."""
        self.org.clock.advance(1)  # a version of the very second of another has no order
        transaction = self.org.open_transaction()
        living = edits.ids(self.org, name)
        column = _CHANGED[name][0]
        try:
            if creates or not living:
                self.numbers += 1
                values = edits.lead(self.numbers) if name == "Lead" else {}
                values |= {"Name" if name == "Account" else "LastName": f"Late {self.numbers}"}
                one = transaction.insert(name, values)
            else:
                one = living[which % len(living)]
                transaction.update(name, one, {column: f"Late {which}"})
        except OrgError:
            transaction.rollback()
            return
        self.transactions.append((transaction, name, one, self.org.clock.now()))

    @rule()
    def commit_a_long_transaction(self) -> None:
        """Now everybody sees it, under its old stamp."""
        if not self.transactions:
            return
        transaction, name, one, begun = self.transactions.pop(0)
        with suppress(OrgError):
            transaction.commit()
            if self.org.clock.now() - begun >= timedelta(seconds=OVERLAP_SECONDS):
                self.late[name].add(one)  # only a reconciliation is bound to find it

    @rule(which=st.sampled_from(HIDEABLE))
    def hide_or_show_a_field(self, which: tuple[str, str]) -> None:
        """An administrator changes field-level security."""
        if which in self.hidden:
            self.hidden.remove(which)
            self.org.catalogue.show_field(*which)
        else:
            self.hidden.add(which)
            self.org.hide_field(*which)

    @rule(seconds=st.sampled_from(PAUSES))
    def let_time_pass(self, seconds: int) -> None:
        """Minutes or days."""
        self.org.clock.advance(seconds)

    # What the pipeline does

    @rule(name=_NAME, fault=_CRM_FAULT)
    def differential(self, name: str, fault: tuple[dict[str, Any], int, int] | None) -> None:
        """The schedule's."""
        self._act(name, lambda: self._sync(name, SyncMode.DIFFERENTIAL), fault)

    @rule(fault=_CRM_FAULT)
    def differential_of_all(self, fault: tuple[dict[str, Any], int, int] | None) -> None:
        """One tick of the schedule."""
        for name in NAMES:
            self._act(name, lambda name=name: self._sync(name, SyncMode.DIFFERENTIAL), fault)  # type: ignore[misc]

    @rule(name=_NAME)
    def differential_in_halves(self, name: str) -> None:
        """As Dagster does it."""

        def halves() -> None:
            self.runs += 1
            self.engine.stage_changes(name, run_id=f"run {self.runs}")
            self.engine.commit_changes(name, run_id=f"run {self.runs}")

        self._act(name, halves, None)

    @rule(name=_NAME, fault=_CRM_FAULT)
    def full(self, name: str, fault: tuple[dict[str, Any], int, int] | None) -> None:
        """A person's."""
        self._act(name, lambda: self._sync(name, SyncMode.FULL), fault)

    @rule(name=_NAME, pages=st.integers(1, 3))
    def full_killed(self, name: str, pages: int) -> None:
        """Stopped between its pages; the next one goes on."""
        left = pages

        def die(_: Progress) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed

        def sync() -> None:
            with suppress(Killed):
                self.runs += 1
                self.engine.sync_object(
                    name, mode=SyncMode.FULL, run_id=f"run {self.runs}", report=die
                )

        self._act(name, sync, None)

    @rule(name=_NAME, fault=_CRM_FAULT)
    def reconcile(self, name: str, fault: tuple[dict[str, Any], int, int] | None) -> None:
        """The daily one."""
        self._act(name, lambda: self._sync(name, SyncMode.RECONCILE), fault, commits_once=False)

    @rule(name=_NAME)
    def refresh(self, name: str) -> None:
        """Columns that no stamp speaks for."""
        self._act(name, lambda: self._sync(name, SyncMode.REFRESH), None)

    @rule(name=_NAME, which=_WHICH)
    def sync_one_record(self, name: str, which: int) -> None:
        """Somebody presses the button."""
        rows = sorted(self.stamps[name]) or edits.ids(self.org, name)
        if rows:
            one = rows[which % len(rows)]
            self.runs += 1
            self._act(
                name,
                lambda: self.engine.sync_record(name, one, run_id=f"run {self.runs}"),
                None,
            )

    # Doing it

    def _edit(
        self, name: str, which: int, edit: Callable[[str], Any], *, deleted: bool = False
    ) -> None:
        rows = self.org.query(f"SELECT Id, IsDeleted FROM {name} ORDER BY Id", include_deleted=True)
        chosen = [str(row["Id"]) for row in rows if row["IsDeleted"] is deleted]
        if chosen:
            with suppress(OrgError):
                edit(chosen[which % len(chosen)])

    def _value(self, column: str, which: int) -> Any:
        if column == "HasOptedOutOfEmail":
            return which % 2 == 0
        if column == "AnnualRevenue":
            return None if which % 7 == 0 else which + 0.5
        if column == "Email":
            return f"a{which}@example.org"
        return f"Changed {which}"

    def _sync(self, name: str, mode: SyncMode) -> SyncOutcome:
        self.runs += 1
        outcome = self.engine.sync_object(name, mode=mode, run_id=f"run {self.runs}")
        if mode in (SyncMode.FULL, SyncMode.RECONCILE):
            self.late[name].clear()
        return outcome

    def _act(
        self,
        name: str,
        act: Callable[[], object],
        fault: tuple[dict[str, Any], int, int] | None,
        *,
        commits_once: bool = True,
    ) -> None:
        """Do it under a fault, and look at the table afterwards."""
        before = self.lab.seen(name)
        if fault is not None:
            kind, nth, times = fault
            plan = {**kind, "times": times} if times == 0 else {**kind, "nth": nth, "times": 1}
            self.lab.served.server.faults.script([{**plan, "path": "/services/data/*"}])
        try:
            act()
        except CrmPipelineError:
            has_committed_halfway = not commits_once or self._reconciles_first
            assert has_committed_halfway or self.lab.seen(name) == before
        finally:
            self.lab.served.server.faults.clear()
        self._look(name)

    @property
    def _reconciles_first(self) -> bool:
        """A differential after a long silence commits a census of its own before."""
        with self.warehouse.connect() as connection:
            row = connection.execute(
                "SELECT bool_or(mode = 'reconcile' AND run_id = %s) FROM crm_sync.sync_run",
                [f"run {self.runs}"],
            ).fetchone()
        return bool(row and row[0])

    def _look(self, name: str) -> None:
        """The promises that hold after every act."""
        with self.warehouse.connect() as connection:
            rows = connection.execute(
                f"SELECT id, _modstamp, _deleted_at IS NULL FROM salesforce.{name.lower()}".encode()
            ).fetchall()
            mark = connection.execute(
                "SELECT watermark FROM crm_sync.object_state WHERE object_name = %s", [name]
            ).fetchone()
        now = {key: stamp for key, stamp, _ in rows}
        assert len(now) == len(rows), "a record stands twice"
        for key, stamp in self.stamps[name].items():
            assert key in now, f"row {key} is gone"
            assert stamp is None or now[key] >= stamp, f"the stamp of {key} fell"
        self.stamps[name] = now
        assert mark is not None
        self._require_complete(name, {key for key, _, lives in rows if lives}, mark[0])

    def _require_complete(self, name: str, living: set[str], watermark: datetime) -> None:
        """Everything that was committed before the watermark is there."""
        is_in = "Is_Target__c" if name == "Lead" else "CreatedDate"
        for record in self.org.query(
            f"SELECT Id, SystemModstamp, IsDeleted, {is_in} FROM {name}", include_deleted=True
        ):
            key = str(record["Id"])
            stamp = datetime.fromisoformat(str(record["SystemModstamp"]))
            if stamp >= watermark or key in self.late[name]:
                continue
            must_live = not record["IsDeleted"] and bool(record[is_in])
            assert (key in living) == must_live, f"{key} of {stamp}, complete up to {watermark}"
            if must_live:
                assert self.stamps[name][key] >= stamp, f"{key} is older than the watermark says"

    def teardown(self) -> None:
        """Heal, sync until quiet, compare."""
        try:
            if self.stamps["Lead"] or self.runs:
                self._heal()
                for name in NAMES:
                    self._sync_until_quiet(name)
                    assert not self.lab.differences(name), self.lab.differences(name)
                    self._require_right_marks(name)
        finally:
            self._open.close()

    def _heal(self) -> None:
        while self.transactions:
            self.commit_a_long_transaction()
        for which in list(self.hidden):
            self.hide_or_show_a_field(which)
        self.org.clock.advance(2 * OVERLAP_SECONDS)

    def _sync_until_quiet(self, name: str) -> None:
        for mode in (SyncMode.DIFFERENTIAL, SyncMode.RECONCILE, SyncMode.REFRESH):
            try:
                self._sync(name, mode)
            except MassDisappearance:
                self.engine.accept_disappearance(name)
                self._sync(name, mode)
        self.org.clock.advance(2 * OVERLAP_SECONDS)
        assert not self._sync(name, SyncMode.DIFFERENTIAL).has_changes, "not quiet"

    def _require_right_marks(self, name: str) -> None:
        with self.warehouse.connect() as connection:
            rows = connection.execute(
                f"SELECT id, _vanished, _merged_into FROM salesforce.{name.lower()}".encode()
            ).fetchall()
        for key, mark, merged_into in rows:
            right = self._right_marks(name, key)
            assert mark in right, f"{key} is marked {mark}, right were {right}"
            if mark == "merged" and (record := self.org.get(name, key)):
                assert merged_into == record["MasterRecordId"]

    def _right_marks(self, name: str, key: str) -> tuple[str | None, ...]:
        record = self.org.get(name, key)
        if record is None:
            return ("deleted", "merged", "left_filter", "not_visible")
        passes = name != "Lead" or record["Is_Target__c"]
        if not record["IsDeleted"]:
            # A tombstone keeps its first mark when its record comes back outside the filter.
            return (None,) if passes else ("left_filter", "deleted", "merged", "not_visible")
        gone = "merged" if record.get("MasterRecordId") else "deleted"
        return (gone,) if passes else (gone, "left_filter")


def live_many_lives(
    server: ProofServer, *, lives: int, steps: int, number: int, shrink: bool = True
) -> None:
    """So many sequences of so many steps; the same number makes the same ones.

    Raises:
        AssertionError: a promise is broken; hypothesis prints the shortest way to it.
    """
    machine: type[Life] = type(f"Life{number}", (Life,), {"server": server})
    seed(number)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
