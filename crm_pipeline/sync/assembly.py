"""Puts an engine together from the environment and the settings file.

Belongs here: which parts make a running installation, and in which order they come up. Does not
belong here: anything that Dagster or the shell adds on top.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import stamina
from stamina.instrumentation import LoggingOnRetryHook

from crm_pipeline.config.environment import Environment, read_environment
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.crm.registry import make_connector
from crm_pipeline.errors import ConfigurationError, SyncsDisabled
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.migrate import migrate


@dataclass(frozen=True)
class Installation:
    """One installation: its settings file, its home and its database.

    Attributes:
        environment: read once, so that a run is pinned to the variables it started with.
    """

    environment: Environment

    @classmethod
    def from_environment(cls) -> "Installation":
        """The installation that the environment variables describe."""
        return cls(read_environment())

    @property
    def settings(self) -> Settings:
        """The settings as the file says them now."""
        return load_settings(self.environment.config_file)

    @cached_property
    def switch(self) -> "SyncSwitch":
        """The off switch, one for all parts, so that the file is read once when it changes."""
        return SyncSwitch(self.environment.config_file)

    @property
    def embedded(self) -> EmbeddedPostgres | None:
        """The embedded server; None when the operator brings her own database."""
        if self.environment.database_url is not None:
            return None
        return EmbeddedPostgres(self.environment.home)

    def database_url(self) -> str:
        """Where the warehouse is; starts the embedded server if need be."""
        if self.environment.database_url is not None:
            return self.environment.database_url.get_secret_value()
        return EmbeddedPostgres(self.environment.home).ensure_running()

    def warehouse(self) -> Warehouse:
        """The warehouse, reachable and migrated."""
        warehouse = Warehouse(self.database_url(), crm_schema=self.settings.crm.type)
        warehouse.require_supported_server()
        migrate(warehouse.url, crm_schema=warehouse.crm_schema)
        return warehouse

    def connector(self, settings: Settings) -> CrmConnector:
        """The CRM, not yet logged in to; it asks the off switch before every request."""
        return make_connector(settings.crm, self.environment, check_interrupt=self.switch.require)

    def write_connector(self, settings: Settings) -> CrmConnector:
        """The same for writing: it may also spend the calls that are kept for consent."""
        share = settings.crm.api_budget_percent + settings.write_backs.consent_reserve_percent
        crm = settings.crm.model_copy(update={"api_budget_percent": min(100, share)})
        return make_connector(crm, self.environment, check_interrupt=self.switch.require)

    @contextmanager
    def engine(self) -> Iterator[SyncEngine]:
        """An engine with its settings pinned as they are now; only the off switch stays live."""
        settings = self.settings
        warehouse = self.warehouse()
        connector = self.connector(settings)
        stamina.instrumentation.set_on_retry_hooks([LoggingOnRetryHook])
        try:
            yield SyncEngine(settings, connector, warehouse, self.switch.require)
        finally:
            connector.close()


class SyncSwitch:
    """`syncs_enabled` as the settings file says it now; read again when the file has changed.

    A file that cannot be read leaves the switch as it last was: a half-saved edit must not stop or
    start anything.
    """

    def __init__(self, config_file: Path) -> None:
        self._config_file = config_file
        self._seen: tuple[int, int] | None = None
        self._is_enabled = True
        self.is_enabled()

    def require(self) -> None:
        """Raise when the switch is off.

        Raises:
            SyncsDisabled: it is.
        """
        if not self.is_enabled():
            raise SyncsDisabled(
                "Syncs are disabled: nothing was read or written. Set `syncs_enabled: true` in "
                f"{self._config_file} to go on."
            )

    def is_enabled(self) -> bool:
        """Whether syncs may move data."""
        try:
            facts = self._config_file.stat()
            seen = (facts.st_mtime_ns, facts.st_size)
            if seen != self._seen:
                self._is_enabled = load_settings(self._config_file).syncs_enabled
                self._seen = seen
        except (OSError, ConfigurationError):
            pass
        return self._is_enabled
