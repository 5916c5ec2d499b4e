"""From the `crm.type` of the settings to a connector.

Belongs here: one line for each connector of ours; others announce themselves in the entry-point
group `crm_pipeline.connectors`. Does not belong here: anything about a CRM, not even its import:
a connector's libraries are loaded when it is asked for.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from crm_pipeline.config.environment import Environment
from crm_pipeline.config.settings import CrmSettings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import ConfigurationError

ENTRY_POINT_GROUP = "crm_pipeline.connectors"


class ConnectorFactory(Protocol):
    """What an entry point leads to."""

    def __call__(
        self,
        settings: CrmSettings,
        environment: Environment,
        *,
        check_interrupt: Callable[[], None] | None,
    ) -> CrmConnector:
        """A connector that has not logged in yet; it calls `check_interrupt` before requests."""


_OURS = (EntryPoint("salesforce", "crm_pipeline.crm.salesforce.connector:from_settings", ""),)


def connector_types() -> tuple[str, ...]:
    """The names that `crm.type` may have here."""
    return tuple(sorted(_known()))


def make_connector(
    settings: CrmSettings,
    environment: Environment,
    *,
    check_interrupt: Callable[[], None] | None = None,
) -> CrmConnector:
    """The connector that the settings name, not yet logged in.

    Raises:
        ConfigurationError: no connector has that name, or the environment lacks its login.
    """
    known = _known()
    if settings.type not in known:
        raise ConfigurationError(
            f"crm.type is {settings.type}, but the connectors here are: {', '.join(sorted(known))}."
        )
    factory: ConnectorFactory = known[settings.type].load()
    return factory(settings, environment, check_interrupt=check_interrupt)


def _known() -> dict[str, EntryPoint]:
    """By name; ours cannot be replaced by what else happens to be installed."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**found, **{point.name: point for point in _OURS}}
