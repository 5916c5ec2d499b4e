"""An engine for one place, made in a millisecond, and the acts that it can be told to do.

Belongs here: what a victim, a rescuer and a model do alike. Does not belong here: killing
(victims.py), the org and the oracle (lab.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.salesforce.bulk import BulkManners
from crm_pipeline.crm.salesforce.connector import connect
from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin
from crm_pipeline.crm.salesforce.wire import Manners
from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.warehouse.connection import Warehouse

# A sandbox org has a job ready in a millisecond, and no proof waits for a timeout.
_BULK = BulkManners(first_poll_seconds=0.002, slowest_poll_seconds=0.05, patience_seconds=60)
_MANNERS = Manners(connect_seconds=5, read_seconds=20, call_seconds=60)


@dataclass(frozen=True)
class Place:
    """Where an engine works, in words that can be sent to another process."""

    org_url: str
    client_id: str
    client_secret: str
    database_url: str
    settings: str = field(repr=False)


def settings_text(objects: Mapping[str, Any], **others: Any) -> str:
    """The settings of a place."""
    return orjson.dumps({"version": 1, "objects": objects, **others}).decode()


@cache
def _settings(text: str) -> Settings:
    return Settings.model_validate(orjson.loads(text))


@contextmanager
def engine_at(place: Place, warehouse: Warehouse | None = None) -> Iterator[SyncEngine]:
    """An engine as a new process would have it, without its command line and its environment."""
    settings = _settings(place.settings)
    connector = connect(
        ClientCredentialsLogin(place.org_url, place.client_id, place.client_secret),
        api_version=settings.crm.api_version,
        api_budget_percent=settings.crm.api_budget_percent,
        manners=_MANNERS,
        bulk=_BULK,
    )
    try:
        yield SyncEngine(
            settings, connector, warehouse or Warehouse(place.database_url), lambda: None
        )
    finally:
        connector.close()


@dataclass(frozen=True)
class Act:
    """One thing that a pipeline is told to do.

    Attributes:
        verb: a mode of sync_object, `halves` for the two halves of a differential, or `record`.
    """

    verb: str
    object_name: str
    record_id: str = ""
    restart: bool = False

    def run(self, engine: SyncEngine, run_id: str) -> SyncOutcome:
        """Do it."""
        name = self.object_name
        if self.verb == "halves":
            engine.stage_changes(name, run_id=run_id)
            return engine.commit_changes(name, run_id=run_id)
        if self.verb == "record":
            return engine.sync_record(name, self.record_id, run_id=run_id)
        mode = SyncMode(self.verb)
        return engine.sync_object(name, mode=mode, run_id=run_id, restart=self.restart)
