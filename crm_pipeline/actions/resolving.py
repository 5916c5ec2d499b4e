"""Deciding everything that was asked for: portion by portion, until nothing is left to decide.

One process decides at a time, by the lease `actions`. A portion is read, what it rests on is
gathered, and the decisions are kept with their write-backs in one transaction. Nothing is sent
here: that is the outbox's.

Belongs here: the order of these steps, and when to stop. Does not belong here: one decision
(deciding.py), and what rules ask for (rules.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence

from crm_pipeline.actions.deciding import Decider, refused
from crm_pipeline.actions.facts import Describer, Gatherer
from crm_pipeline.actions.finding import Finder
from crm_pipeline.actions.reading import Asked, read
from crm_pipeline.actions.refusing import Refusal
from crm_pipeline.actions.rules import apply_rules
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import SyncsDisabled, UsageError, WrongOrganization
from crm_pipeline.model.actions import Action, ActionsOutcome, ActionState
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.actions import (
    ACTIONS_LEASE,
    Decision,
    is_any_due,
    keep_decisions,
    requested,
)
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline.warehouse.ledger import known_organization

PORTION = 1_000
"""Actions that are decided together: 20 questions to the CRM at most, and one transaction."""


def resolve(
    settings: Settings,
    connector: CrmConnector,
    warehouse: Warehouse,
    *,
    run_id: str,
    require_enabled: Callable[[], None],
) -> ActionsOutcome:
    """Let the rules look, and decide all that is asked for; costs no call where nothing is.

    Raises:
        LeaseBusy: another process decides just now.
        Interrupted: switched off; what is not decided stays asked for.
        TransientError: the CRM or the warehouse cannot be reached; the same.
        UsageError: the CRM refuses our login, or nothing was ever synced.
        WrongOrganization: the login leads to another organisation than the warehouse's.
    """
    _require_on(settings, require_enabled)
    calls = connector.usage.calls
    totals: Counter[ActionState] = Counter()
    with (
        warehouse.reusing_connections(),
        held_lease(warehouse, ACTIONS_LEASE, owner=run_id, mode=SyncMode.WRITE_BACK) as lease,
    ):
        looked = apply_rules(settings, warehouse)
        if is_any_due(warehouse):
            _require_own_organization(connector, warehouse)
            gatherer = Gatherer(settings, connector, warehouse, Describer(connector))
            portion, place = requested(warehouse, after=-1, limit=PORTION)
            while portion:
                _require_on(settings, require_enabled)
                lease.check()
                totals.update(keep_decisions(warehouse, lease, _decisions(gatherer, portion)))
                portion, place = requested(warehouse, after=place, limit=PORTION)
    return ActionsOutcome(
        enqueued=totals[ActionState.ENQUEUED],
        unneeded=totals[ActionState.UNNEEDED],
        held=totals[ActionState.HELD],
        refused=totals[ActionState.REFUSED],
        waiting=totals[ActionState.REQUESTED],
        asked_by_rules=looked.asked,
        problems=looked.problems,
        api_calls=connector.usage.calls - calls,
    )


def _decisions(gatherer: Gatherer, portion: Sequence[Action]) -> list[Decision]:
    asked: list[Asked] = []
    decisions: list[Decision] = []
    for action in portion:
        try:
            asked.append(read(action, gatherer.describe))
        except Refusal as refusal:
            decisions.append(refused(action.action_id, refusal))
    facts = gatherer.gather(asked)
    finder = Finder(gatherer.connector, gatherer.describe, facts)
    decider = Decider(gatherer.settings, finder)
    return decisions + [decider.decide(one) for one in asked]


def _require_on(settings: Settings, require_enabled: Callable[[], None]) -> None:
    require_enabled()
    if not settings.write_backs.enabled:
        raise SyncsDisabled(
            "Write-backs are disabled: no action was decided. Set `write_backs.enabled: true` in"
            " the settings file to go on."
        )


def _require_own_organization(connector: CrmConnector, warehouse: Warehouse) -> None:
    """A person of another organisation must never be taken for one of ours."""
    known = known_organization(warehouse)
    if known is None:
        raise UsageError(
            "This warehouse holds the data of no organisation yet, so no action can be decided."
            " Launch a full sync first: crm-pipeline sync full"
        )
    organization = connector.organization_id()
    if organization != known[0]:
        raise WrongOrganization(
            f"This warehouse holds the data of {known[1]} ({known[0]}), but the login leads to the"
            f" organisation {organization}. No action was decided."
        )
