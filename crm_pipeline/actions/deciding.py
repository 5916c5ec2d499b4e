"""What becomes of one action: a write-back, nothing on purpose, or a person's decision.

Belongs here: what is written to the record that an action is about, and by which options. Does not
belong here: which record that is (finding.py), one value for one field (values.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from crm_pipeline.actions.facts import (
    Facts,
    Place,
    key_place,
    member_place,
    person_place,
)
from crm_pipeline.actions.finding import MEMBER_FIELDS, Ambiguous, Finder, Target
from crm_pipeline.actions.reading import Asked
from crm_pipeline.actions.refusing import REMEDIES, Refusal
from crm_pipeline.actions.values import Values, required_but_missing
from crm_pipeline.config.names import listed, show
from crm_pipeline.config.settings import Settings
from crm_pipeline.model.actions import MEMBER, PEOPLE, ActionKind, ActionState, IfFound
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import (
    Intent,
    Lane,
    OnDuplicate,
    Operation,
    Outcome,
    Value,
    WriteOptions,
)
from crm_pipeline.warehouse.actions import Decision, OwnerFound

_MOST_IDS_KEPT = 20
_PLAIN_ASSIGNMENTS = ("none", "default")


@dataclass(frozen=True, slots=True)
class Decider:
    """Decides the actions of one portion in their order; each sees what those before it make."""

    settings: Settings
    finder: Finder

    @property
    def facts(self) -> Facts:
        """What the decisions rest on."""
        return self.finder.facts

    def decide(self, asked: Asked) -> Decision:
        """What becomes of an action; whatever is wrong with it stops no other."""
        action_id = asked.action.action_id
        maker = next(filter(None, map(self.facts.making.get, _places(asked))), None)
        if maker is not None:
            return _waiting(asked, maker)
        try:
            return self._decided(asked)
        except Refusal as refusal:
            return refused(action_id, refusal, match_email=asked.email)
        except Ambiguous as found:
            return Decision(
                action_id,
                ActionState.HELD,
                code="AMBIGUOUS",
                reason=f"{len(found.ids)} records of {found.object_name} have {found.what}.",
                remedy=REMEDIES["AMBIGUOUS"],
                match_email=asked.email,
                matched_object=found.object_name,
                matches=found.ids[:_MOST_IDS_KEPT],
            )

    def _decided(self, asked: Asked) -> Decision:
        action = asked.action
        gives_owner = action.kind is ActionKind.UPDATE and asked.options.owner is not None
        if not action.fields and not gives_owner and asked.crm_object.name != MEMBER:
            raise Refusal("NO_FIELDS", "The action names no field.")
        is_keyed = action.external_id_field is not None and asked.record_id is None
        is_upsert = is_keyed and action.kind is not ActionKind.UPDATE
        if is_upsert and not asked.looks_first:
            return self._upsert(asked, self.finder.to_be_made(asked))
        target = self.finder.find(asked)
        if target.record_id is None:
            return self._upsert(asked, target) if is_upsert else self._create(asked, target)
        is_found = bool(target.how) and action.kind is not ActionKind.UPDATE
        if is_found and asked.options.if_found is IfFound.LEAVE:
            return _unneeded(asked, target, "ALREADY_THERE", f"{target.how}, and is left as it is.")
        return self._update(asked, target)

    def _create(self, asked: Asked, target: Target) -> Decision:
        crm_object, action = asked.crm_object, asked.action
        self._require_chosen(crm_object)
        if "create" not in crm_object.allowed_changes:
            raise Refusal(
                "NOT_CREATEABLE", f"Our user may not create records of {crm_object.name}."
            )
        values = self._values(asked, crm_object, Operation.CREATE).of(action.fields)
        values |= {key: value for key, value in target.links.items() if crm_object.find(key)}
        values |= self._owner(asked)
        missing = required_but_missing(crm_object, values)
        if missing:
            raise Refusal(
                "REQUIRED_FIELD_MISSING", f"{crm_object.name} cannot be without {listed(missing)}."
            )
        key_field = self.settings.write_backs.key_field
        _require_key(self.finder.connector.key_refusal(crm_object, key_field))
        is_looked_up = crm_object.name == MEMBER or (
            crm_object.name in PEOPLE and asked.email is not None
        )
        options = replace(self._options(asked), if_absent=is_looked_up)
        intent = _intent(asked, crm_object, Operation.CREATE, values, options)
        return self._making(asked, intent)

    def _upsert(self, asked: Asked, target: Target) -> Decision:
        """The CRM finds or makes the record by itself, as long as the key tells records apart."""
        crm_object, action = asked.crm_object, asked.action
        self._require_chosen(crm_object)
        key_field = action.external_id_field or ""
        _require_key(self.finder.connector.key_refusal(crm_object, key_field))
        known = crm_object.find(key_field)
        assert known is not None, "a key that is not refused is described"
        values = self._values(asked, crm_object, Operation.UPSERT).of(
            {k: v for k, v in action.fields.items() if k.casefold() != known.name.casefold()}
        )
        if not values:
            raise Refusal("NO_FIELDS", "The action names no field besides the key.")
        values |= {key: value for key, value in target.links.items() if crm_object.find(key)}
        values |= self._owner(asked)
        options = replace(self._options(asked), if_absent=asked.looks_first)
        intent = _intent(asked, crm_object, Operation.UPSERT, values, options, key_field=known.name)
        return self._making(asked, intent)

    def _making(self, asked: Asked, intent: Intent) -> Decision:
        """The record is made, and others may mean it; of a membership, that is seen only now."""
        name, values, places = intent.object_name, intent.fields, []
        if name == MEMBER:
            person = values.get("ContactId") or values.get("LeadId")
            places = [member_place(str(values.get("CampaignId")), str(person))]
        maker = next(filter(None, map(self.facts.making.get, places)), None)
        if maker is not None:
            return _waiting(asked, maker)
        email = values.get("Email") or asked.email
        if name in PEOPLE and isinstance(email, str):
            places.append(person_place(email.strip().lower()))
        if intent.external_id_field and intent.external_id:
            places.append(key_place(name, intent.external_id_field, intent.external_id))
        for place in places:
            self.facts.making.setdefault(place, asked.action.action_id)
        return _enqueued(asked, intent)

    def _update(self, asked: Asked, target: Target) -> Decision:
        action, crm_object = asked.action, target.crm_object
        self._require_chosen(crm_object)
        if "edit" not in crm_object.allowed_changes:
            raise Refusal("NOT_UPDATEABLE", f"Our user may not edit records of {crm_object.name}.")
        is_update = action.kind is ActionKind.UPDATE
        kept = set() if is_update else set(asked.options.only_new)
        if crm_object.name == MEMBER:
            kept |= {name.casefold() for name in MEMBER_FIELDS}
        writer = self._values(asked, crm_object, Operation.UPDATE)
        values = writer.of({k: v for k, v in action.fields.items() if k.casefold() not in kept})
        # A record that was there already keeps its owner, and no assignment rule gets it.
        options = self._options(asked) if is_update else WriteOptions()
        values |= self._owner(asked) if is_update else {}
        left_out = (
            f" {crm_object.name} has no {listed(writer.left_out)}." if writer.left_out else ""
        )
        how = f"{target.how}.{left_out}" if target.how else None
        if not values:
            return _unneeded(
                asked, target, "NOTHING_TO_WRITE", f"Nothing of it is to be written.{left_out}"
            )
        gives_way = {k: v for k, v in values.items() if k.casefold() in asked.options.only_empty}
        intents = [
            _intent(asked, crm_object, Operation.UPDATE, part, chosen, record_id=target.record_id)
            for part, chosen in (
                ({k: v for k, v in values.items() if k not in gives_way}, options),
                (gives_way, replace(options, if_unchanged=True)),
            )
            if part
        ]
        return _enqueued(asked, *intents, how=how, target=target)

    def _require_chosen(self, crm_object: CrmObject) -> None:
        """Nothing is written to an object that is not listed: it would wait for ever."""
        if crm_object.name not in self.settings.enabled_objects:
            raise Refusal(
                "NOT_AMONG_OBJECTS", f"{crm_object.name} is not among the objects of the settings."
            )

    def _values(self, asked: Asked, crm_object: CrmObject, operation: Operation) -> Values:
        consent = self.settings.write_backs.consent
        return Values(self.finder.connector, consent, crm_object, asked.crm_object.name, operation)

    def _options(self, asked: Asked) -> WriteOptions:
        wanted, rules = asked.options.assignment, self.facts.rules
        if wanted not in _PLAIN_ASSIGNMENTS and rules is not None:
            object_name = rules.get(wanted) or next(
                (rules[one] for one in rules if one[:15] == wanted), None
            )
            if object_name != asked.crm_object.name:
                raise Refusal(
                    "BAD_ASSIGNMENT_RULE",
                    f"{show(wanted)} is no assignment rule of {asked.crm_object.name}.",
                )
        elif wanted not in _PLAIN_ASSIGNMENTS:
            raise Refusal(
                "NO_REFERENCE_DATA", "The assignment rules of the CRM are not known here."
            )
        return WriteOptions(OnDuplicate(asked.options.on_duplicate), wanted)

    def _owner(self, asked: Asked) -> dict[str, Value]:
        """The owner that the action names, as a field; only reference data tells who that is."""
        named = asked.options.owner
        if named is None:
            return {}
        if self.facts.owners is None:
            raise Refusal("NO_REFERENCE_DATA", "Users and queues of the CRM are not known here.")
        found = self.facts.owners.get(named, ())
        able = [one for one in found if _may_own(one, asked.crm_object.name)]
        if len(able) > 1:
            raise Refusal("AMBIGUOUS_OWNER", f"{len(able)} users or queues are {show(named)}.")
        if able:
            return {"OwnerId": able[0].record_id}
        raise Refusal("BAD_OWNER", _why_no_owner(named, found, asked.crm_object.name))


def refused(action_id: str, refusal: Refusal, *, match_email: str | None = None) -> Decision:
    """The decision that a refusal is."""
    return Decision(
        action_id,
        ActionState.REFUSED,
        code=refusal.code,
        reason=refusal.reason,
        remedy=refusal.remedy,
        match_email=match_email,
    )


def _may_own(owner: OwnerFound, object_name: str) -> bool:
    return owner.is_active and (not owner.is_queue or object_name in owner.owns)


def _why_no_owner(named: str, found: tuple[OwnerFound, ...], object_name: str) -> str:
    if not found:
        return f"There is no user and no queue {show(named)}."
    if found[0].is_queue:
        return f"The queue {show(named)} may not own records of {object_name}."
    return f"The user {show(named)} is not active."


def _require_key(refusal: Outcome | None) -> None:
    if refusal is not None:
        raise Refusal("NO_KEY_FIELD", refusal.reason or "", remedy=refusal.remedy)


def _intent(
    asked: Asked,
    crm_object: CrmObject,
    operation: Operation,
    values: dict[str, Value],
    options: WriteOptions,
    *,
    record_id: str | None = None,
    key_field: str | None = None,
) -> Intent:
    """The write-back that an action becomes; it carries the action's own key and instant."""
    action = asked.action
    return Intent(
        key=action.key,
        operation=operation,
        object_name=crm_object.name,
        fields=values,
        lane=Lane.ACTION,
        origin=f"action: {action.requested_by}",
        record_id=record_id,
        external_id_field=key_field,
        external_id=action.external_id if key_field else None,
        value_at=action.requested_at,
        options=options,
    )


def _places(asked: Asked) -> Iterator[Place]:
    """Where its record may be in the making: then it waits, and finds it."""
    action = asked.action
    if asked.email:
        yield person_place(asked.email)
    if action.external_id_field and action.external_id and asked.looks_first:
        yield key_place(asked.crm_object.name, action.external_id_field, action.external_id)


def _waiting(asked: Asked, maker: str) -> Decision:
    return Decision(
        asked.action.action_id,
        ActionState.REQUESTED,
        match_email=asked.email,
        waits_for=maker,
    )


def _enqueued(
    asked: Asked, *intents: Intent, how: str | None = None, target: Target | None = None
) -> Decision:
    return Decision(
        asked.action.action_id,
        ActionState.ENQUEUED,
        reason=how,
        match_email=asked.email,
        matched_object=target.crm_object.name if target else None,
        matches=(target.record_id,) if target and target.record_id else (),
        intents=intents,
    )


def _unneeded(asked: Asked, target: Target, code: str, reason: str) -> Decision:
    assert target.record_id is not None
    return Decision(
        asked.action.action_id,
        ActionState.UNNEEDED,
        code=code,
        reason=reason,
        match_email=asked.email,
        matched_object=target.crm_object.name,
        matches=(target.record_id,),
    )
