"""What can happen to people between two builds, one kind of change at a time, and at random.

Belongs here: changes as syncs and loads of events make them, each with a sign by which one sees
that the models took it up. Does not belong here: who there is at first (population.py), and what
must hold afterwards (test_incremental_builds.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from crm_pipeline_tests.marketing.population import ACCOUNTS, CONTACTS, LEADS
from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse


def lead(number: int) -> str:
    """The id of a lead."""
    return f"00Q{number:012}EAA"


def contact(number: int) -> str:
    """The id of a contact."""
    return f"003{number:012}AAA"


def account(number: int) -> str:
    """The id of an account."""
    return f"001{number:012}AAA"


@dataclass(frozen=True)
class Change:
    """One kind of change.

    Attributes:
        records: whose people the change is about; none where no record is.
        make: what a sync or a load does.
        sign: a query of the marts that is true once they know of it, and not before.
    """

    records: tuple[str, ...]
    make: Callable[[SyntheticWarehouse], None]
    sign: str


def _of_person(record: str) -> str:
    records = "marketing_staging.int_people__records"
    return f"(SELECT person_id FROM {records} WHERE record_id = '{record}')"


def _is_of(event_id: str, record: str) -> str:
    return (
        f"SELECT person_id = {_of_person(record)} FROM marketing.fct_engagement"
        f" WHERE event_id = '{event_id}'"
    )


def _update_title(warehouse: SyntheticWarehouse) -> None:
    warehouse.change("contact", contact(101), title="Chief Tester")


def _delete(warehouse: SyntheticWarehouse) -> None:
    warehouse.delete("lead", lead(1_206))


def _restore(warehouse: SyntheticWarehouse) -> None:
    # Merged into the next one at first.
    warehouse.change("lead", lead(1_241), email="restored@example.com")


def _merge(warehouse: SyntheticWarehouse) -> None:
    warehouse.events(
        {
            "event_id": "of a loser",
            "kind": "page_visited",
            "crm_id": lead(1_408),
            "occurred_at": _AT,
        }
    )
    warehouse.merge("lead", lead(1_408), lead(1_409))


def _merge_namesakes(warehouse: SyntheticWarehouse) -> None:
    # Of one person, and read by one sync: neither address nor stamp tells that one is gone.
    warehouse.merge("lead", lead(1_900), lead(1_899))


def _convert(warehouse: SyntheticWarehouse) -> None:
    warehouse.events(
        {
            "event_id": "of a converted lead",
            "kind": "form_submitted",
            "email": "person1504@example.com",
            "occurred_at": _AT,
        }
    )
    warehouse.contacts(
        {"id": contact(5_001), "email": "converted@example.com", "lastname": "Converted"}
    )
    warehouse.convert(lead(1_504), contact(5_001))


def _move(warehouse: SyntheticWarehouse) -> None:
    warehouse.change("lead", lead(1_606), email="moved@example.com")
    warehouse.events(
        {
            "event_id": "of a former address",
            "kind": "page_visited",
            "email": "person1606@example.com",
            "occurred_at": _AT,
        }
    )


def _take_over_an_address(warehouse: SyntheticWarehouse) -> None:
    # Until now the address meant the contact that this lead became.
    warehouse.leads({"id": lead(5_002), "email": "former210@example.com", "lastname": "Own"})
    warehouse.events(
        {
            "event_id": "of an address with an owner",
            "kind": "email_clicked",
            "email": "former210@example.com",
            "occurred_at": _AT,
        }
    )


def _arrive_late(warehouse: SyntheticWarehouse) -> None:
    warehouse.events(
        {
            "event_id": "late",
            "kind": "page_visited",
            "email": "person1703@example.com",
            "channel": "first of all",
            "occurred_at": "2024-01-01T00:00:00Z",
        }
    )


def _arrive_after_its_events(warehouse: SyntheticWarehouse) -> None:
    warehouse.leads({"id": lead(3_021), "email": "arrived@example.com", "lastname": "Arrived"})


def _become_a_customer(warehouse: SyntheticWarehouse) -> None:
    warehouse.change("account", account(46), type="Customer - Channel")


def _lose_the_address(warehouse: SyntheticWarehouse) -> None:
    warehouse.change("lead", lead(1_804), email=None)


def _erase(warehouse: SyntheticWarehouse) -> None:
    # As the erasure of a person does: the one way by which events go.
    warehouse.execute("DELETE FROM events.marketing_events WHERE email = 'stranger63@example.com'")
    warehouse.execute(
        "INSERT INTO marketing_staging.person_change (person_id)"
        " VALUES (md5('email:stranger63@example.com')::uuid)"
    )


_AT = "2026-03-01T10:00:00Z"
CHANGES: Mapping[str, Change] = {
    "a record is updated": Change(
        (contact(101),),
        _update_title,
        f"SELECT title = 'Chief Tester' FROM marketing.dim_people WHERE person_id = "
        f"{_of_person(contact(101))}",
    ),
    "a record is deleted": Change(
        (lead(1_206),),
        _delete,
        "SELECT NOT EXISTS (SELECT FROM marketing.dim_people"
        f" WHERE '{lead(1_206)}' = ANY (lead_ids))",
    ),
    "a record is restored": Change(
        (lead(1_241), lead(1_242), lead(1_243)),
        _restore,
        "SELECT count(*) = 1 FROM marketing.dim_people WHERE email = 'restored@example.com'",
    ),
    "a record is merged": Change(
        (lead(1_408), lead(1_409)), _merge, _is_of("of a loser", lead(1_409))
    ),
    "a record is merged into another of the person": Change(
        (lead(1_899), lead(1_900)),
        _merge_namesakes,
        f"SELECT lead_ids = '{{{lead(1_899)}}}' FROM marketing.dim_people"
        f" WHERE person_id = {_of_person(lead(1_899))}",
    ),
    "a lead is converted": Change(
        (lead(1_504), contact(5_001)), _convert, _is_of("of a converted lead", contact(5_001))
    ),
    "an address is changed": Change(
        (lead(1_606),),
        _move,
        "SELECT p.primary_record_type = 'address' FROM marketing.fct_engagement e"
        " JOIN marketing.dim_people p USING (person_id) WHERE e.event_id = 'of a former address'",
    ),
    "an address is taken away": Change(
        (lead(1_804),),
        _lose_the_address,
        f"SELECT email IS NULL FROM marketing.dim_people WHERE primary_record_id = '{lead(1_804)}'",
    ),
    "an address finds an owner": Change(
        (lead(210), contact(210), lead(5_002)),
        _take_over_an_address,
        _is_of("of an address with an owner", lead(5_002)),
    ),
    "an event arrives late": Change(
        (lead(1_703),),
        _arrive_late,
        "SELECT first_touch_channel = 'first of all' FROM marketing.fct_touches"
        f" WHERE person_id = {_of_person(lead(1_703))}",
    ),
    "a record arrives after its events": Change(
        (lead(3_021),),
        _arrive_after_its_events,
        "SELECT count(*) > 0 FROM marketing.fct_engagement e JOIN marketing.dim_people p"
        " USING (person_id) WHERE p.email = 'arrived@example.com'"
        f" AND e.crm_id = '{lead(3_021)}' AND e.email IS DISTINCT FROM p.email",
    ),
    "a person is erased": Change(
        (),
        _erase,
        "SELECT count(*) = 0 FROM marketing.dim_people WHERE email = 'stranger63@example.com'",
    ),
    "an account becomes a customer": Change(
        (contact(45), contact(145)),
        _become_a_customer,
        f"SELECT is_customer FROM marketing.dim_people WHERE person_id = {_of_person(contact(45))}",
    ),
}


class RandomChanges:
    """Changes to anybody, in any order: what no list of kinds thinks of."""

    def __init__(self, warehouse: SyntheticWarehouse, seed: str) -> None:
        self.warehouse = warehouse
        self.random = Random(seed)
        self.seed = seed
        self.made = 0

    def make(self, how_many: int) -> None:
        """Make so many changes, most of them to few people, so that they meet."""
        for _ in range(how_many):
            self.made += 1
            self.random.choice(
                (
                    self._update,
                    self._update,
                    self._move,
                    self._delete,
                    self._merge,
                    self._convert,
                    self._send_event,
                    self._send_event,
                    self._change_account,
                    self._win,
                )
            )()

    def _record(self) -> tuple[str, str]:
        number = self.random.choice((self.random.randint(1, 40), self.random.randint(1, LEADS)))
        if number <= CONTACTS and self.random.random() < 0.4:
            return "contact", contact(number)
        return "lead", lead(number)

    def _address(self) -> str | None:
        number = self.random.choice((self.random.randint(1, 40), self.random.randint(1, LEADS)))
        return self.random.choice(
            (
                f"person{number}@example.com",
                f"person{number}@example.com",
                f" Person{number}@EXAMPLE.com",
                f"former{number // 21 * 21}@example.com",
                f"stranger{number % 300}@example.com",
                None,
            )
        )

    def _update(self) -> None:
        self.warehouse.change(*self._record(), title=f"Title {self.made}")

    def _move(self) -> None:
        self.warehouse.change(*self._record(), email=self._address())

    def _delete(self) -> None:
        self.warehouse.delete(*self._record())

    def _merge(self) -> None:
        (table, loser), (other, winner) = self._record(), self._record()
        if table == other and loser != winner:
            self.warehouse.merge(table, loser, winner)

    def _convert(self) -> None:
        number = self.random.choice((self.random.randint(1, 40), self.random.randint(1, CONTACTS)))
        self.warehouse.convert(lead(self.random.randint(1, 40)), contact(number))

    def _send_event(self) -> None:
        _, record = self._record()
        self.warehouse.events(
            {
                "event_id": f"random {self.seed} {self.made}",
                "kind": self.random.choice(
                    ("page_visited", "email_clicked", "form_submitted", "email_unsubscribed")
                ),
                "email": self._address(),
                "crm_id": self.random.choice((record, None, None)),
                "channel": self.random.choice(("social", None)),
                "url": f"https://example.com/{self.made}",
                "occurred_at": f"2026-02-{self.random.randint(1, 28):02}"
                f"T10:{self.random.randint(0, 59):02}:00Z",
            }
        )

    def _change_account(self) -> None:
        self.warehouse.change(
            "contact",
            contact(self.random.randint(1, 40)),
            accountid=account(self.random.randint(1, ACCOUNTS)),
        )

    def _win(self) -> None:
        self.warehouse.change(
            "opportunity", f"006{self.random.randint(1, 200):012}AAA", iswon=self.made % 2 == 0
        )
