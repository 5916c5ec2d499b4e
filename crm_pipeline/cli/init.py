"""`crm-pipeline init`: the settings file, written from the org's describe.

Belongs here: choosing the objects and the file. Does not belong here: the file's text
(config/template.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from crm_pipeline.cli.console import stderr
from crm_pipeline.config.environment import read_environment
from crm_pipeline.config.names import did_you_mean, printable
from crm_pipeline.config.settings import CrmSettings
from crm_pipeline.config.template import render_settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.crm.registry import make_connector
from crm_pipeline.errors import UsageError

DEFAULT_OBJECTS = ("Lead", "Account", "Contact", "Opportunity")


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "Example: crm-pipeline init --objects Lead,Contact,Event_Registration__c"
    app.command("init", epilog=example)(init)


def init(
    *,
    objects: Annotated[
        str,
        typer.Option("--objects", help="CRM objects by API name, separated by commas."),
    ] = ",".join(DEFAULT_OBJECTS),
    force: Annotated[
        bool, typer.Option("--force", help="Write over a settings file that is there.")
    ] = False,
) -> None:
    """Log in and write crm_sync.yaml from what the org describes.

    Every field that can be stored is mapped; delete the lines that you do not want. The file is
    written to CRM_PIPELINE_CONFIG, by default crm_sync.yaml in the current folder.
    """
    environment = read_environment()
    names = split_names(objects) or DEFAULT_OBJECTS
    _require_free(environment.config_file, force=force)
    crm = CrmSettings()
    connector = make_connector(crm, environment)
    try:
        identity = connector.identity()
        stderr().print(
            f"Logged in to {identity.organization_name} ({identity.organization_id}) as "
            f"{identity.user_name}.",
            markup=False,
        )
        fields = write_settings(connector, names, environment.config_file, crm.api_version)
    finally:
        connector.close()
    stderr().print(
        f"Wrote {environment.config_file}: {len(names)} objects, {fields} fields. Read it, delete "
        "what you do not want, then run: crm-pipeline check",
        markup=False,
    )


def split_names(text: str) -> tuple[str, ...]:
    """Names of a comma-separated option, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def require_known(names: Sequence[str], known: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The names in the spelling of `known`.

    Raises:
        UsageError: one is not known; the sentence offers the nearest.
    """
    by_folded = {name.casefold(): name for name in known}
    for name in names:
        if name.casefold() not in by_folded:
            near = did_you_mean(name, known)
            hint = f"; did you mean {near}?" if near else "."
            raise UsageError(f"There is no object {printable(name)} in {where}{hint}")
    return tuple(by_folded[name.casefold()] for name in names)


def write_settings(
    connector: CrmConnector,
    names: Sequence[str],
    file: Path,
    api_version: str,
    *,
    everything_on: bool = False,
) -> int:
    """Describe the objects and write the file, whole or not at all.

    Args:
        connector: logged in, or able to.
        names: of objects, in any case.
        file: where.
        api_version: such as "62.0".
        everything_on: see `render_settings`.

    Returns:
        How many fields can be mapped.
    """
    known = require_known(names, connector.object_names(), where="the org")
    described = [connector.describe(name) for name in known]
    text = render_settings(described, api_version=api_version, everything_on=everything_on)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written ({error.strerror}); set CRM_PIPELINE_CONFIG to another path."
        ) from error
    return sum(field.value_type is not None for one in described for field in one.fields.values())


def _require_free(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise UsageError(f"{file} is there already; pass --force to write over it.")
