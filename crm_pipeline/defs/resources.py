"""What every asset, job and tick is given: this installation, and its engine once one is needed.

Belongs here: how Dagster's life cycle opens and closes an engine. Does not belong here: how an
engine is put together (sync/assembly.py) and what is done with it.
"""

import os
import platform
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from crm_pipeline.config.event_folder import absolute_folder
from crm_pipeline.config.settings import Settings
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.writeback.drain import Drain, DrainOutcome

WORKER_TAG = "crm_pipeline/worker"
"""Run tag: `host:boot:pid:start` of the process that does the work; the reaper looks it up."""


RunContext = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext
"""What a step knows of its run."""


class CrmResource(dg.ConfigurableResource[Any]):
    """This installation. One engine per process, opened by whoever needs it first.

    Opening is left to the steps, so that a wrong setting or a database that is down fails a step
    with a sentence, and so that runs of a switched-off installation touch nothing at all.
    """

    _engine: SyncEngine | None = PrivateAttr(None)
    _open: ExitStack = PrivateAttr(default_factory=ExitStack)

    def engine(self, context: RunContext) -> SyncEngine:
        """The engine, with its settings pinned as they were when it was opened.

        Raises:
            CrmPipelineError: any verdict; see there.
        """
        if self._engine is None:
            self.begin(context)
            self._engine = self._open.enter_context(Installation.from_environment().engine())
        return self._engine

    def begin(self, context: RunContext) -> None:
        """Refuse before anything is touched; then say which process does the run's work.

        Raises:
            SyncsDisabled: the operator's switch is off.
        """
        Installation.from_environment().switch.require()
        context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: this_worker()})

    def warehouse(self) -> Warehouse:
        """The warehouse as it is, possibly without a single table yet; for ticks."""
        installation = Installation.from_environment()
        return Warehouse(installation.database_url(), crm_schema=installation.settings.crm.type)

    def migrated_warehouse(self) -> Warehouse:
        """The warehouse with every table of ours; for steps that need no engine."""
        return Installation.from_environment().warehouse()

    def drain(self, run_id: str) -> DrainOutcome:
        """Send what is due in the outbox, until nothing is left that may be sent now.

        Raises:
            CrmPipelineError: any verdict; see `Drain.run`.
        """
        installation = Installation.from_environment()
        settings = installation.settings
        connector = installation.write_connector(settings)
        try:
            drainer = Drain(
                settings, connector, installation.warehouse(), installation.switch.require
            )
            return drainer.run(run_id)
        finally:
            connector.close()

    def event_folder(self) -> str | None:
        """Where files of events are, as the settings file says it now."""
        installation = Installation.from_environment()
        folder = installation.settings.events.folder
        if folder is None:
            return None
        return absolute_folder(folder, beside=installation.environment.config_file)

    def require_enabled(self) -> None:
        """Raise when the off switch is off.

        Raises:
            SyncsDisabled: it is.
        """
        Installation.from_environment().switch.require()

    def settings(self) -> Settings:
        """The settings as the file says them now."""
        return Installation.from_environment().settings

    def are_syncs_enabled(self) -> bool:
        """The off switch as the settings file says it now."""
        return self.settings().syncs_enabled

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Give the CRM's connections back at the end of the run."""
        del context
        self._engine = None
        self._open.close()


def this_worker() -> str:
    """Names this process so that it can be told from another one with its number."""
    return f"{platform.node()}:{_boot()}:{os.getpid()}:{_started(os.getpid())}"


def is_worker_alive(worker: str) -> bool | None:
    """Whether the process is still there; None when it was on a machine that we cannot see."""
    host, boot, pid, started = worker.split(":")
    if host != platform.node():
        return None
    if boot != _boot():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(int(pid)) == started


def _boot() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else "unknown"


def _started(pid: int) -> str:
    """When the process began, in the kernel's ticks; `ended` for one that only waits for burial."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "unknown"
    return "ended" if facts[0] == "Z" else facts[19]


def engine_run_id(context: RunContext) -> str:
    """The owner of leases and ledger rows: the first run of a chain of retries.

    A retry thus takes over its dead predecessor's leases at once, and goes on with what that had
    staged; the epoch in the lease still fences the two off from each other.
    """
    return context.run.root_run_id or context.run.run_id


def build_resources() -> dict[str, object]:
    """The resources of a real installation."""
    return {"crm": CrmResource()}
