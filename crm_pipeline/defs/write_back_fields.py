"""The job that makes the fields which write-backs need in the CRM; people launch it.

Belongs here: its form, its table, and when it is red. Does not belong here: making a field (crm/),
what is written into it (the write-backs).
"""

import dagster as dg
from pydantic import Field

from crm_pipeline.config.names import listed
from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.metadata import without_markup
from crm_pipeline.defs.names import WRITE_BACK_FIELDS
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.model.wanted_fields import FieldEnsured
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.writeback.field_setup import FieldSetUp, set_up_fields


class FieldsConfig(dg.Config):
    """What to make beyond the fields of the enabled write-backs, and whether to make anything."""

    key_field_on: list[str] = Field(
        default=[], description="Objects in which records will be created; they get the key field."
    )
    only_look: bool = Field(default=False, description="Change nothing in the CRM.")


def build_write_back_fields() -> dg.Definitions:
    """The job alone: no schedule changes what a CRM is made of."""

    @dg.op(description="Makes what is missing, opens it to our user, and looks again.")
    def make_fields(context: dg.OpExecutionContext, config: FieldsConfig, crm: CrmResource) -> None:
        with told_as_failure(context):
            crm.begin(context)
            found = _set_up(config)
        if found.unready:
            raise dg.Failure(_sentence(found.unready), _facts(found), allow_retries=False)
        context.add_output_metadata(_facts(found))

    @dg.job(
        name=WRITE_BACK_FIELDS,
        description=(
            "Make the fields in the CRM that the enabled write-backs write, and let the integration"
            " user write them. What is there stays as it is, so it can be launched again at any"
            " time. The run's table says what became of each."
        ),
        executor_def=dg.in_process_executor,
    )
    def write_back_fields() -> None:
        make_fields()

    return dg.Definitions(jobs=[write_back_fields])


def _set_up(config: FieldsConfig) -> FieldSetUp:
    installation = Installation.from_environment()
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return set_up_fields(
            settings, connector, key_field_on=config.key_field_on, only_look=config.only_look
        )
    finally:
        connector.close()


def _facts(found: FieldSetUp) -> dict[str, dg.MetadataValue]:
    records = [
        dg.TableRecord(
            {
                "object": one.wanted.object_name,
                "field": one.wanted.name,
                "type": one.crm_type,
                "outcome": one.state.value,
                "why": without_markup(one.reason),
                "what_to_do": without_markup(one.remedy),
            }
        )
        for one in found.fields
    ]
    facts: dict[str, dg.MetadataValue] = {"fields": dg.MetadataValue.table(records)}
    if found.lines_to_map:
        facts["lines_to_map"] = dg.MetadataValue.md(f"```yaml\n{found.lines_to_map}\n```")
    return facts


def _sentence(unready: tuple[FieldEnsured, ...]) -> str:
    names = listed([f"{one.wanted.object_name}.{one.wanted.name}" for one in unready])
    first = unready[0]
    return f"Nothing can be written to {names}. {first.reason} {first.remedy}"
