"""The program `crm-pipeline`: its commands, its exit codes, and the one sentence of an error.

Belongs here: what holds for every command. Does not belong here: a command (a module each). Modules
that import Dagster are imported by the commands that need it: it takes more than a second.
"""

import logging
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer

from crm_pipeline.cli import (
    accept,
    actions,
    check,
    consent,
    demo,
    environment,
    events,
    explain,
    forget,
    init,
    model_docs,
    sandbox,
    status,
    sync,
    up,
    write_backs,
)
from crm_pipeline.cli.console import configure_logging, lines_of, stderr
from crm_pipeline.errors import CrmPipelineError, UsageError
from crm_pipeline.warehouse.wording import told

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="crm-pipeline",
    help="Keep Salesforce and a PostgreSQL marketing warehouse in step, both ways.",
    epilog="Example: crm-pipeline demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
)
for module in (init, check, status, accept, explain, forget, model_docs, environment, up, demo):
    module.register(app)
app.add_typer(sync.app)
app.add_typer(events.app)
app.add_typer(sandbox.app)
app.add_typer(write_backs.app)
app.add_typer(actions.app)
app.add_typer(consent.app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        sys.stdout.write(f"crm-pipeline {version('crm-pipeline')}\n")
        raise typer.Exit


@app.callback()
def options(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show log records, and the traceback of an error.")
    ] = False,
) -> None:
    """Keep Salesforce and a PostgreSQL marketing warehouse in step, both ways."""
    del show_version
    configure_logging(verbose=verbose)


def main() -> None:
    """Run the command line and exit with its code."""
    # Secrets and records are in memory: neither we nor what we start leaves a picture of it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        0 when everything was done, 1 when something failed, 2 when the settings or the command
        line need a change, 130 when interrupted.
    """
    verbose = "--verbose" in arguments
    # People write it at the end as well as in front.
    given = [a for a in arguments if a != "--verbose"]
    try:
        code: Any = app(
            ["--verbose", *given] if verbose and given else given, standalone_mode=False
        )
    except CrmPipelineError as error:
        return _report(error, EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED, verbose)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except Exception as error:
        if (usage := _usage_sentence(error)) is not None:
            return _report_sentence(usage, EXIT_USAGE)
        return _report(error, EXIT_FAILED, verbose)
    if code == EXIT_INTERRUPTED:
        stderr().print("Stopped. Nothing is lost: the next sync goes on where this one ended.")
    return int(code or 0)


def _usage_sentence(error: Exception) -> str | None:
    """What the command line's parser has to say; None for errors that are not the parser's."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(format_message())
    path = context.command_path if context else "crm-pipeline"
    return f"{format_message()} See `{path} --help`."


def _report(error: Exception, code: int, verbose: bool) -> int:  # noqa: FBT001 - private
    if verbose:
        logging.getLogger(__name__).error("The command failed", exc_info=error)
    sentence = told(error)
    if not isinstance(error, CrmPipelineError):
        sentence = f"{sentence}. Run it again with --verbose to see where."
    return _report_sentence(sentence, code)


def _report_sentence(sentence: str, code: int) -> int:
    if sentence:
        stderr().print(lines_of(sentence), markup=False)
    return code


if __name__ == "__main__":
    main()
