"""What of an object is synced: the operator's choice held against the org as it is now.

Belongs here: joining settings and describe. Does not belong here: reading settings (config/),
describing (crm/), and what a change of them means for older rows (completeness.py).
"""

from crm_pipeline.config.mapping import relationship_paths, resolve_readable_selection
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import ConfigurationError, FieldUnavailable
from crm_pipeline.model.objects import ObjectSelection


def select_object(
    settings: Settings, connector: CrmConnector, object_name: str
) -> tuple[ObjectSelection, tuple[str, ...]]:
    """Describe an object and resolve its mapping.

    Returns:
        The selection, and mapped fields that the org does not show us; the rest can be synced.

    Raises:
        ObjectUnavailable: the org does not show the object.
        ConfigurationError: the object is not in the settings, or is switched off there.
    """
    chosen = chosen_object(settings, object_name)
    crm_object = connector.describe(object_name)
    hidden: list[str] = []
    for path in relationship_paths(chosen):
        try:
            crm_object = connector.describe_path(crm_object, path)
        except FieldUnavailable as error:
            hidden.extend(error.fields)
    selection, broken = resolve_readable_selection(chosen, crm_object)
    return selection, tuple(dict.fromkeys((*broken, *hidden)))


def chosen_object(settings: Settings, object_name: str) -> ObjectSettings:
    """What the operator chose for one object.

    Raises:
        ConfigurationError: the object is not in the settings, or is switched off there.
    """
    chosen = settings.enabled_objects.get(object_name)
    if chosen is None:
        raise ConfigurationError(
            f"{object_name} is not among the objects that take part in syncs "
            f"({', '.join(settings.enabled_objects)}). Add it under `objects:` in the settings "
            "file, or set `enabled: true` there."
        )
    return chosen
