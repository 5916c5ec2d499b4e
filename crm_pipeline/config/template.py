"""The settings file that `crm-pipeline init` writes from the org's describe.

Holds the file's text and comments. Belongs here: what a newcomer reads on first opening the file.
Does not belong here: the settings' meaning (settings.py) and choosing the objects (cli/).
"""

from collections.abc import Iterator, Sequence

from crm_pipeline.config.names import (
    REFERENCE_TABLES,
    column_problem,
    default_column,
    identifier_problem,
    is_field_name,
    is_object_name,
    shortened,
)
from crm_pipeline.config.object_settings import ID_FIELD
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.objects import CrmField, CrmObject

_LABEL_CHARACTERS = 60
_YAML_WORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null"})
_HEAD = """\
# What CRM Pipeline syncs. `crm-pipeline check` tells what is wrong with it before a row moves.
# Logins and passwords do not belong here: they come from environment variables.
version: 1

# The off switch: with false, nothing moves in either direction.
syncs_enabled: true

crm:
  type: salesforce
  api_version: "{api_version}"
  # Share of the org's daily API calls at which we stop asking, in percent.
  api_budget_percent: 50
  # Result pages that are read side by side, 1 to 8.
  read_streams: 2
  # Records per result page where the CRM does not offer its pages in parallel.
  bulk_page_records: 100000

differential:
  # Minutes between reads of what changed: 5 to 1440.
  interval_minutes: 60
  # Minutes that each read looks back, for changes that commit late.
  overlap_minutes: 15

refresh:
  # Minutes between reads of calculated fields, which change without a sign of it.
  interval_minutes: 1440

# Per object, beside its fields:
#   enabled: false                  to leave it alone
#   table: other_name               instead of the object's name in lower case
#   filter: "Status != 'Spam' and IsConverted = false"
#   transport: auto                 or rest, or bulk
# A field is one of:
#   - Email                         into column email
#   - Email: email_address          into another column
#   - {{field: Email, column: email, direction: both}}
#   - Account.Name                  of the record that a lookup points to: column account_name
objects:
"""
_TAIL = """
# Users, queues, assignment rules and picklist values beside the objects.
reference_data: true

marketing:
  # People, consent, scores, touches and audiences, built by dbt.
  enabled: true
  target_schema: marketing
  # Named groups of people; the table audiences keeps who belongs to them, and since when.
{example}audiences:
{example}  hot_customers:
{example}    description: Customers with a high score.
{example}    where: "is_customer = true and total_score >= 50"
{example}  form_senders:
{example}    description: Who sent a form.
{example}    query: >
{example}      SELECT person_id FROM marketing.fct_engagement
{example}      WHERE kind = 'form_submitted'

events:
  # Files of marketing events: CSV, JSON lines, JSON, Parquet. Without a folder none are read.
{example}folder: events
  # Minutes between looks for new files: 1 to 1440.
  poll_minutes: {poll_minutes}

write_backs:
  # The off switch of the way to the CRM; with false, what is to be written waits.
  enabled: true
  # External ID, unique: the field by which records that we create are made once.
  key_field: Crm_Pipeline_Key__c
  # Id of the user or queue who gets records whose owner is inactive or gone; null parks these.
  default_owner: null
  # Percent of the daily API calls, beyond the budget, that opt-outs alone may use.
  consent_reserve_percent: 5
  # What is written by itself, and into which fields.
  consent:
    # Opt-outs and hard bounces travel both ways, to_crm, from_crm, or off.
    direction: {direction}
    unsubscribed: {{Lead: HasOptedOutOfEmail, Contact: HasOptedOutOfEmail}}
    hard_bounced: {{Lead: Email_Hard_Bounced__c, Contact: Email_Hard_Bounced__c}}
  lead_scores:
    enabled: {is_written}
    fields: {{Lead: Lead_Score__c, Contact: Lead_Score__c}}
    # Smaller changes are not worth a write, except across a threshold.
    smallest_change: 1
    thresholds: []
    # keep: what people entered in the CRM stays until they empty the field.
    edited_in_crm: overwrite
  visits:
    enabled: {is_written}
    fields: {{Lead: Most_Recent_Visit__c, Contact: Most_Recent_Visit__c}}
  touches:
    enabled: {is_written}
    first_channel: {{Lead: First_Touch_Channel__c, Contact: First_Touch_Channel__c}}
    first_source: {{Lead: First_Touch_Source__c, Contact: First_Touch_Source__c}}
    last_channel: {{Lead: Last_Touch_Channel__c, Contact: Last_Touch_Channel__c}}
    last_source: {{Lead: Last_Touch_Source__c, Contact: Last_Touch_Source__c}}
  # More records of one kind at once wait for your approval; opt-outs never do.
  approval:
    most_records: 10000
    most_percent: {most_percent}

# What is created or updated in the CRM because something happened.
actions:
  # If a rule asks for more than this at one look, you must let it go.
  most_at_once: 1000
{example}rules:
{example}  form_lead:
{example}    when: {{event: form_submitted}}
{example}    do: {{create: Lead}}
{example}    fields:
{example}      LastName: {{from: properties.last_name, otherwise: Unknown}}
{example}      Company: {{from: properties.company, otherwise: "[not given]"}}
{example}      Email: {{from: email}}

retention:
  # Days for which finished runs are kept in Dagster, and rows in the ledger.
  runs_days: 30
  ledger_days: 90
  # Days for which records can be asked for as they were; 0 keeps no former values.
  history_days: 365
"""


def render_settings(
    objects: Sequence[CrmObject], *, api_version: str, everything_on: bool = False
) -> str:
    """A commented settings file that maps every storable field of the objects.

    Calculated fields are written as comments, for their values change without a sign of it; so are
    encrypted ones, for they may arrive masked. What cannot be stored is left out. The text loads
    with `load_settings`.

    Args:
        objects: as described; an object whose name no setting could spell is left out.
        api_version: such as "62.0".
        everything_on: events are read from the folder `events` every minute, the examples are
            no comments, and everything that can be written back is, without asking anybody.

    Raises:
        ConfigurationError: there is no object to write.
    """
    named = [crm_object for crm_object in objects if is_object_name(crm_object.name)]
    if not named:
        raise ConfigurationError("Name at least one CRM object to write settings for.")
    lines = [line for crm_object in named for line in _object_lines(crm_object)]
    tail = _TAIL.format(
        example="  " if everything_on else "  # ",
        poll_minutes=1 if everything_on else 5,
        direction="both" if everything_on else "from_crm",
        is_written="true" if everything_on else "false",
        most_percent=100 if everything_on else 50,
    )
    return _HEAD.format(api_version=api_version) + "\n".join(lines) + "\n" + tail


def _object_lines(crm_object: CrmObject) -> Iterator[str]:
    table = crm_object.name.lower()
    yield f"  {_quoted(crm_object.name)}:{_comment(_label(crm_object.label))}"
    if table in REFERENCE_TABLES or identifier_problem(table):
        yield f"    table: {shortened(table)}"
    yield "    fields:"
    yield f"      - {ID_FIELD}  # the key, always mapped"
    for field in crm_object.fields.values():
        is_known = field.name.casefold() in {ID_FIELD.casefold(), crm_object.id_field.casefold()}
        # A path belongs to another object, and is mapped by hand.
        if (
            field.value_type
            and not is_known
            and is_field_name(field.name)
            and "." not in field.name
        ):
            yield _field_line(field)


def _field_line(field: CrmField) -> str:
    column = default_column(field.name)
    name = _quoted(field.name)
    entry = f"{name}: {shortened(column)}" if column_problem(column) else name
    reason = ""
    if field.is_calculated:
        reason = "calculated, so it changes without the record being marked as changed"
    elif field.may_be_masked:
        reason = "encrypted, so it arrives masked without the permission View Encrypted Data"
    if reason:
        return f"      # - {entry}{_comment(f'{_label(field.label)}: {reason}')}"
    return f"      - {entry}{_comment(_label(field.label))}"


def _quoted(name: str) -> str:
    """Quotes around names that YAML would read as something else."""
    return f'"{name}"' if name.lower() in _YAML_WORDS else name


def _label(label: str) -> str:
    """A label on one line: it comes from the org, and must not end its comment."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    return shown if len(shown) <= _LABEL_CHARACTERS else f"{shown[:_LABEL_CHARACTERS]}..."


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""
