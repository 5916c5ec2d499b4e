"""The fields that write-backs need in the CRM, made or looked at, and how to map them.

A field that the warehouse holds, too, is compared before it is written, so a value that the record
has already costs no call: what is made here is best mapped right away.

Belongs here: going through the list. Does not belong here: the list (config/wanted_fields.py),
making a field (crm/<vendor>/).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from crm_pipeline.config.names import listed
from crm_pipeline.config.settings import Settings
from crm_pipeline.config.wanted_fields import wanted_fields
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import SyncsDisabled, UsageError
from crm_pipeline.model.wanted_fields import FieldEnsured, FieldState


@dataclass(frozen=True, slots=True)
class FieldSetUp:
    """What became of every wanted field.

    Attributes:
        left_out: objects that the settings leave alone, so nothing was made on them.
        lines_to_map: what to add to the settings file so that the fields are read, too; empty when
            all are mapped.
    """

    fields: tuple[FieldEnsured, ...]
    left_out: tuple[str, ...]
    lines_to_map: str

    @property
    def unready(self) -> tuple[FieldEnsured, ...]:
        """Those that nothing can be written to."""
        return tuple(one for one in self.fields if not one.can_be_written)


def set_up_fields(
    settings: Settings,
    connector: CrmConnector,
    *,
    key_field_on: Collection[str] = (),
    only_look: bool = False,
) -> FieldSetUp:
    """Make what enabled write-backs need and is not there yet.

    Args:
        settings: say which write-backs are on, and name their fields.
        connector: the CRM.
        key_field_on: objects in which records will be created.
        only_look: change nothing.

    Raises:
        UsageError: the key field is asked for on an object that the settings leave alone.
        SyncsDisabled: the way to the CRM is switched off.
        CrmPipelineError: the CRM cannot be asked.
    """
    enabled = settings.enabled_objects
    unknown = sorted(set(key_field_on) - enabled.keys())
    if unknown:
        raise UsageError(
            f"{listed(unknown)} is not among the enabled objects of the settings; add it under "
            "`objects:` first."
        )
    if not settings.write_backs.enabled and not only_look:
        raise SyncsDisabled(
            "Write-backs are disabled: no field was made. Set `write_backs.enabled: true` in the "
            "settings file to go on."
        )
    wanted = wanted_fields(settings, key_field_on=key_field_on)
    found: list[FieldEnsured] = []
    for one in wanted:
        if one.object_name not in enabled:
            continue
        if only_look:
            found.append(connector.judge_field(connector.describe(one.object_name), one))
        else:
            found.append(connector.ensure_field(one))
    left_out = dict.fromkeys(one.object_name for one in wanted if one.object_name not in enabled)
    return FieldSetUp(tuple(found), tuple(left_out), lines_to_map(settings, found))


def lines_to_map(settings: Settings, found: Iterable[FieldEnsured]) -> str:
    """Lines of YAML for fields that are there and not mapped yet."""
    missing: dict[str, list[str]] = {}
    for one in found:
        chosen = settings.objects[one.wanted.object_name]
        mapped = {mapping.field.casefold() for mapping in chosen.columns}
        is_there = one.can_be_written or one.state is FieldState.READ_ONLY
        if is_there and one.wanted.name.casefold() not in mapped:
            missing.setdefault(one.wanted.object_name, []).append(one.wanted.name)
    lines = ["objects:"] if missing else []
    for name, fields in missing.items():
        lines += [f"  {name}:", "    fields:", *(f"      - {field}" for field in fields)]
    return "\n".join(lines)
