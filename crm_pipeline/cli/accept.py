"""`crm-pipeline accept`: a person agrees that so many records vanish.

Belongs here: that one consent. Does not belong here: what is held and why
(warehouse/disappearance.py), and the sync that then marks the rows.
"""

from typing import Annotated

import typer

from crm_pipeline.cli.console import stdout
from crm_pipeline.cli.init import require_known


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("accept", epilog="Example: crm-pipeline accept Lead")(accept)


def accept(
    object_name: Annotated[str, typer.Argument(metavar="OBJECT", help="API name of the object.")],
) -> None:
    """Agree to a mass disappearance that was held; the next sync of the object marks the rows.

    A sync that would mark very many rows as gone stops and changes nothing, because a lost
    permission or a wrong filter looks just like that. Find the cause first. Nothing is read from
    the CRM, and rows that are marked stay in the table.
    """
    # They import alembic, which `--help` should not pay.
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415
    from crm_pipeline.warehouse import disappearance  # noqa: PLC0415

    installation = Installation.from_environment()
    known = tuple(installation.settings.enabled_objects)
    [name] = require_known([object_name], known, where="the settings file")
    rows = disappearance.accept(installation.warehouse(), name)
    stdout().print(
        f"{name}: the next sync may mark {rows:,} rows as gone. Now sync again: crm-pipeline sync "
        "differential, or what had stopped.",
        markup=False,
    )
