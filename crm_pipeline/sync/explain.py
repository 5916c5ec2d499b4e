"""Why a person stands as she does: everything that was read, said, decided and written about her.

Belongs here: who is meant, and where to look. Does not belong here: statements
(warehouse/passport.py) and how it is shown (cli/explain.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crm_pipeline.config.settings import Settings
from crm_pipeline.sync.forget import search_of
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.erasure import Person
from crm_pipeline.warehouse.passport import Entry, Tables, standing, timeline


@dataclass(frozen=True, slots=True)
class Passport:
    """One person.

    Attributes:
        now: what holds: `records`, `consent`, `scores`.
        timeline: how it came to be, oldest first.
    """

    now: Mapping[str, Sequence[Mapping[str, object]]]
    timeline: tuple[Entry, ...]


def explain_person(warehouse: Warehouse, settings: Settings, person: Person) -> Passport:
    """The passport of a person; changes nothing and asks the CRM nothing."""
    tables = Tables(
        warehouse.crm_schema,
        {
            name: (chosen.table_name(name), chosen.columns[0].column)
            for name, chosen in settings.objects.items()
        },
        settings.marketing.target_schema,
    )
    with warehouse.connect() as connection:
        whole = search_of(connection, warehouse, settings).completed(person)
        return Passport(standing(connection, whole, tables), timeline(connection, whole, tables))
