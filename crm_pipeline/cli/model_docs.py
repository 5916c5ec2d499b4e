"""`crm-pipeline docs`: the marketing models as a page to browse.

Belongs here: arguments and sentences. Does not belong here: writing the page (defs/model_docs.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from crm_pipeline.cli.console import stdout
from crm_pipeline.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("docs", epilog="Example: crm-pipeline docs --to public")(write_docs)


def write_docs(
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Where index.html goes; model-docs in the home of CRM Pipeline by default.",
        ),
    ] = None,
) -> None:
    """Write a page about the marketing models: tables, columns, tests, SQL and lineage.

    One file that any browser opens, without a server and without the network. Nothing is built; the
    warehouse is asked for types and comments, and no row of it is in the page.
    """
    from crm_pipeline.defs.dbt_project import find_project  # noqa: PLC0415 - imports psycopg
    from crm_pipeline.defs.model_docs import write_model_docs  # noqa: PLC0415
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - imports alembic

    installation = Installation.from_environment()
    settings, home = installation.settings, installation.environment.home
    if not settings.marketing.enabled:
        raise ConfigurationError(
            "There are no models to describe; write `marketing: {enabled: true}` into the settings."
        )
    url = installation.warehouse().url
    page = write_model_docs(find_project(settings, home), url, to or home / "model-docs")
    stdout().print(f"Written: {page}", markup=False, soft_wrap=True)
