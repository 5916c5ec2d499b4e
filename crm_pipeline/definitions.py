"""The Dagster location `crm_pipeline`: everything below, put together for one settings file.

Belongs here: which builders make the location. Does not belong here: any asset, job or tick
(defs/). What an operator drops into `crm_pipeline/defs/` of a checkout appears beside it.
"""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.actions import build_actions
from crm_pipeline.defs.alerts import build_alerts
from crm_pipeline.defs.checks import build_checks
from crm_pipeline.defs.crm_objects import build_crm_objects
from crm_pipeline.defs.dbt_project import find_project
from crm_pipeline.defs.housekeeping import build_housekeeping
from crm_pipeline.defs.jobs import build_jobs
from crm_pipeline.defs.marketing_events import build_marketing_events
from crm_pipeline.defs.marketing_models import build_marketing_models
from crm_pipeline.defs.partitions import build_hourly_windows
from crm_pipeline.defs.reference_data import build_reference_data
from crm_pipeline.defs.refusals import build_refusal
from crm_pipeline.defs.resources import build_resources
from crm_pipeline.defs.schedules import build_schedules
from crm_pipeline.defs.sensors import build_sensors
from crm_pipeline.defs.write_back_fields import build_write_back_fields
from crm_pipeline.defs.write_backs import build_write_backs
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.sync.assembly import Installation


def build_definitions(
    settings: Settings, *, home: Path, resources: Mapping[str, object] | None = None
) -> dg.Definitions:
    """The location for one settings file.

    Args:
        settings: what the operator chose.
        home: where the installation keeps its files.
        resources: instead of the real ones, for tests.
    """
    windows = build_hourly_windows(home)
    return dg.Definitions.merge(
        dg.Definitions(resources=resources or build_resources()),
        build_crm_objects(settings, windows),
        build_reference_data(settings),
        build_marketing_events(settings),
        _marketing(settings, home),
        build_checks(settings),
        build_jobs(settings),
        build_schedules(settings),
        build_sensors(settings),
        build_actions(),
        build_write_backs(settings),
        build_alerts(),
        build_housekeeping(),
        build_write_back_fields(),
    )


def _marketing(settings: Settings, home: Path) -> dg.Definitions:
    """A fault in the models must not stop the syncs."""
    if not settings.marketing.enabled:
        return dg.Definitions()
    try:
        return build_marketing_models(find_project(settings, home))
    except ConfigurationError as error:
        return build_refusal("marketing_models", str(error))


def _installed() -> dg.Definitions:
    try:
        installation = Installation.from_environment()
        return build_definitions(installation.settings, home=installation.environment.home)
    except (ConfigurationError, OSError) as error:
        return build_refusal("settings_file", str(error))


@dg.definitions
def defs() -> dg.Definitions:
    """Built anew whenever the location is loaded, from the settings file as it is then."""
    project = Path(__file__).parents[1]
    if not (project / "pyproject.toml").exists():
        return _installed()
    return dg.Definitions.merge(_installed(), dg.load_from_defs_folder(path_within_project=project))
