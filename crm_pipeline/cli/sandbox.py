"""`crm-pipeline sandbox`: the sandbox org from the command line.

Belongs here: options. Does not belong here: the org and its server (sandbox/).
"""

import errno
from pathlib import Path
from typing import Annotated

import typer

from crm_pipeline.cli.console import stdout
from crm_pipeline.errors import UsageError

app = typer.Typer(
    name="sandbox",
    help="A simulated Salesforce org on this machine, to try things out on.",
    no_args_is_help=True,
)


@app.callback()
def sandbox() -> None:
    """A simulated Salesforce org on this machine, to try things out on."""


@app.command(epilog="Example: crm-pipeline sandbox serve --records 1000 --live-seconds 5")
def serve(
    *,
    port: Annotated[int, typer.Option(help="Loopback port; 0 takes a free one.")] = 8089,
    home: Annotated[
        Path | None, typer.Option(help="Keep the org in this folder; without it, it is forgotten.")
    ] = None,
    records: Annotated[int, typer.Option(help="Records to invent in an empty org.")] = 20_000,
    load: Annotated[
        list[Path] | None,
        typer.Option(
            help="Fill it from files: sObject tree JSON, a plan, a folder, or Object.csv."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed invents the same people.")] = 1,
    live_seconds: Annotated[
        float, typer.Option(help="Edit records this often; 0 leaves the org alone.")
    ] = 0.0,
    tls: Annotated[bool, typer.Option("--tls", help="HTTPS with an authority of its own.")] = False,
) -> None:
    """Serve a simulated Salesforce org until Ctrl-C.

    It prints its address and the client id and secret that it accepts.
    """
    # Its server takes half a second to import, which no other command should pay.
    from crm_pipeline.sandbox.salesforce import running  # noqa: PLC0415

    console = stdout()
    try:
        running.serve(
            home,
            port,
            records=records,
            seed=seed,
            live_seconds=live_seconds,
            tls=tls,
            load=load or (),
            announce=lambda line: console.print(line, markup=False),
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UsageError(
            f"Port {port} is taken; name another, or --port 0 for a free one."
        ) from None
