"""`crm-pipeline env`: the variables that Dagster's own programs need, as a shell reads them.

Belongs here: printing them. Does not belong here: which they are (dagster_home.py).
"""

import shlex
import sys

import typer

from crm_pipeline.cli.console import stderr
from crm_pipeline.cli.dagster_home import prepare_dagster_home
from crm_pipeline.config.environment import read_environment


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("env", epilog='Example: eval "$(crm-pipeline env)"')(print_environment)


def print_environment() -> None:
    """Print export lines with which dagster-webserver and dagster-daemon run by themselves.

    Starts the embedded PostgreSQL if it is used. Afterwards, in the project's folder, run:
    dagster-webserver -w workspace.yaml, and beside it dagster-daemon run -w workspace.yaml. The
    lines hold the password of Dagster's database: keep them out of files that others read.
    """
    home = prepare_dagster_home(read_environment())
    for name, value in sorted(home.variables.items()):
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    if sys.stdout.isatty():
        stderr().print('To set them in this shell, run: eval "$(crm-pipeline env)"')
