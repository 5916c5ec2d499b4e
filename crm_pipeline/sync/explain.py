"""Why a person stands as she does: everything that was read, said, decided and written about her.

Belongs here: who is meant, and where to look. Does not belong here: statements
(warehouse/passport.py) and how it is shown (cli/explain.py).
"""

from crm_pipeline.config.settings import Settings
from crm_pipeline.sync.forget import search_of
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.erasure import Person
from crm_pipeline.warehouse.passport import Passport, Tables, read_passport


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
        return read_passport(connection, whole, tables)
