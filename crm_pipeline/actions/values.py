"""What is written into which field: judged by describe before anything is put in the outbox.

Belongs here: one value for one field. Does not belong here: which record gets it (finding.py), and
what only the CRM can judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from crm_pipeline.actions.refusing import Refusal
from crm_pipeline.config.names import did_you_mean, listed, show
from crm_pipeline.config.write_back_settings import BOUNCED_AT, OPT_OUT_BOX, ConsentSettings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.model.objects import CrmField, CrmObject
from crm_pipeline.model.writeback import Operation, Value

_CLOSED_LISTS = frozenset({("Case", "Priority")})
"""Drop-downs of which only the options that are there make sense to people who work by them."""


@dataclass(slots=True)
class Values:
    """Judges the values of one action for one record.

    Attributes:
        asked_for: the object that the action names; a person may turn out to be of another, and
            then fields that it does not have are left out.
        left_out: those.
    """

    connector: CrmConnector
    consent: ConsentSettings
    crm_object: CrmObject
    asked_for: str
    operation: Operation
    left_out: list[str] = field(default_factory=list)

    def of(self, given: Mapping[str, object]) -> dict[str, Value]:
        """The values by the fields' own names.

        Raises:
            Refusal: one can never be written.
        """
        found: dict[str, Value] = {}
        for name, value in given.items():
            known = self.crm_object.find(name)
            if self.crm_object.name != self.asked_for and not (known and known.is_updateable):
                self.left_out.append(name)
                continue
            plain = self._plain(name, value)
            checked = self._checked(name, known, plain)
            self._require_consent_kept(checked.name, plain)
            self._require_option(checked, plain)
            found[checked.name] = plain
        return found

    def _plain(self, name: str, value: object) -> Value:
        if value is None or isinstance(value, str | bool | int | Decimal):
            return value
        raise Refusal("BAD_VALUE", f"The value of {show(name)} is a list or an object.")

    def _checked(self, name: str, known: CrmField | None, value: Value) -> CrmField:
        if known is None or known.value_type is None:
            near = did_you_mean(name, self.crm_object.fields)
            hint = f" Did you mean {show(near)}?" if near else ""
            raise Refusal(
                "INVALID_FIELD",
                f"{self.crm_object.name} has no field {show(name)} for our user.{hint}",
            )
        can_be = {
            Operation.CREATE: known.is_createable,
            Operation.UPDATE: known.is_updateable,
            Operation.UPSERT: known.is_createable or known.is_updateable,
        }
        if not can_be[self.operation]:
            raise Refusal(
                "READ_ONLY_FIELD", f"Our user may not write {self.crm_object.name}.{known.name}."
            )
        refused = self.connector.refusal_of(self.crm_object, self.operation, known.name, value)
        if refused is not None:
            raise Refusal(
                "UNFIT_VALUE",
                f"{self.crm_object.name}.{known.name}: {refused.reason}",
                remedy=refused.remedy,
            )
        return known

    def _require_consent_kept(self, name: str, value: Value) -> None:
        """No action takes an opt-out or a bounce back, whoever asks for it."""
        boxes = {OPT_OUT_BOX.casefold()} | {
            box.casefold()
            for fields in (self.consent.unsubscribed, self.consent.hard_bounced)
            for box in fields.by_object.values()
        }
        is_loosened = name.casefold() in boxes and str(value).lower() != "true"
        is_forgotten = name.casefold() == BOUNCED_AT.casefold() and value in (None, "")
        if is_loosened or is_forgotten:
            raise Refusal("CONSENT_NOT_LOOSENED", f"{name} would be taken back.")

    def _require_option(self, known: CrmField, value: Value) -> None:
        if (self.crm_object.name, known.name) not in _CLOSED_LISTS or value is None:
            return
        options = {option.value for option in known.options if option.is_active}
        if options and str(value) not in options:
            raise Refusal(
                "NO_SUCH_OPTION",
                f"{self.crm_object.name}.{known.name} is one of {listed(sorted(options))},"
                f" not {show(value)}.",
            )


def required_but_missing(crm_object: CrmObject, values: Mapping[str, Value]) -> list[str]:
    """Fields without which no record of the object can be made, as far as describe tells."""
    return [
        one.name
        for one in crm_object.fields.values()
        if one.is_required and values.get(one.name) in (None, "")
    ]
