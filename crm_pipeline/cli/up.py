"""`crm-pipeline up`: the Dagster UI, schedule and sensors, side by side under one supervisor.

Belongs here: what is started, in which order, and what people are told. Does not belong here:
keeping processes alive (supervisor.py) and their command lines (services.py).
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crm_pipeline.cli.console import stderr
from crm_pipeline.cli.dagster_home import prepare_dagster_home
from crm_pipeline.cli.services import (
    DagsterServices,
    dagster_services,
    first_free_port,
    require_loopback,
)
from crm_pipeline.cli.supervisor import Supervisor, supervised
from crm_pipeline.config.environment import Environment, read_environment, salesforce_login
from crm_pipeline.config.load import load_settings
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

Host = Annotated[str, typer.Option("--host", help="Address that the UI listens on.")]
Port = Annotated[int, typer.Option("--port", help="Port of the UI, or the next free one.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", epilog="Example: crm-pipeline up --port 3001")(up)


def up(
    *,
    host: Host = "127.0.0.1",
    port: Port = 3000,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Let other machines reach the UI, which has no login."),
    ] = False,
) -> None:
    """Serve the Dagster UI, the schedule and the sensors until Ctrl-C.

    Starts the embedded PostgreSQL if it is used. What dies is started again; Ctrl-C stops
    everything within seconds. Logs are kept in the folder logs below CRM_PIPELINE_HOME.
    """
    environment = read_environment()
    settings = load_settings(environment.config_file)
    if settings.crm.type == "salesforce":
        salesforce_login(environment)
    address = require_loopback(host, allow_remote=allow_remote)
    console = stderr()
    logs = environment.home.resolve() / "logs"
    with supervised(logs, lambda line: console.print(line, markup=False)) as supervisor:
        bring_up_database(environment, supervisor, settings.crm.type)
        services = bring_up_dagster(environment, supervisor, console, host=address, port=port)
        console.print(
            f"The Dagster UI is at {services.address}\n"
            f"  First full sync: Jobs, full_sync, the arrow beside Materialize all, "
            f"Open launchpad\n"
            f"  Differentials:   Automation, differential_schedule, every "
            f"{settings.differential.interval_minutes} minutes\n"
            f"  Tables:          Assets; and crm-pipeline status\n"
            f"  Logs:            {logs}\n"
            "Ctrl-C stops everything.",
            markup=False,
        )
        watch(environment, supervisor, services, console)


def bring_up_database(environment: Environment, supervisor: Supervisor, crm_schema: str) -> None:
    """Start the embedded server if it is used, and migrate.

    A server that runs already belongs to somebody else, and is left running at the end.
    """
    if environment.database_url is None:
        server = EmbeddedPostgres(environment.home)
        if not server.is_running():
            supervisor.own_postgres(environment.home)
        url = server.ensure_running()
    else:
        url = environment.database_url.get_secret_value()
    warehouse = Warehouse(url, crm_schema=crm_schema)
    warehouse.require_supported_server()
    # It takes half a second to import, which `--help` should not pay.
    from crm_pipeline.warehouse.migrate import migrate  # noqa: PLC0415

    migrate(url)


def bring_up_dagster(
    environment: Environment, supervisor: Supervisor, console: Console, *, host: str, port: int
) -> DagsterServices:
    """Start the three services and wait until the UI shows our definitions."""
    home = prepare_dagster_home(environment)
    free = first_free_port(host, port)
    if free != port:
        console.print(f"Port {port} is taken; the UI takes {free}.")
    services = dagster_services(home, host=host, port=free)
    for service in (services.code_server, services.webserver, services.daemon):
        supervisor.start(service)
    supervisor.wait_until(services.has_definitions, what="The Dagster UI")
    return services


def watch(
    environment: Environment, supervisor: Supervisor, services: DagsterServices, console: Console
) -> None:
    """Keep the services alive, and the definitions in step with the settings file."""
    seen = _stamp(environment.config_file)
    while True:
        supervisor.revive()
        time.sleep(0.5)
        now = _stamp(environment.config_file)
        if now != seen and _may_reload(environment, services):
            seen = now
            supervisor.restart(services.code_server)
            console.print("The settings file changed: the definitions are loaded again.")


def _may_reload(environment: Environment, services: DagsterServices) -> bool:
    """Whether the file can be used and no run would be cut off."""
    with suppress(ConfigurationError, OSError):
        load_settings(environment.config_file)
        return services.runs_in_progress() == 0
    return False


def _stamp(file: Path) -> tuple[int, int]:
    with suppress(OSError):
        facts = file.stat()
        return facts.st_mtime_ns, facts.st_size
    return 0, 0
