"""`crm-pipeline consent`: note that somebody wants mail again.

Belongs here: arguments and sentences. Does not belong here: the ledger (warehouse/opting_in.py).
"""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from crm_pipeline.cli.console import print_json, stderr, stdout

app = typer.Typer(name="consent", help="Who may be written to.", no_args_is_help=True)


@app.callback()
def consent() -> None:
    """Who may be written to."""


@app.command(
    "opt-in",
    epilog="Example: crm-pipeline consent opt-in ada@example.com --because web-form-3-March",
)
def opt_in(
    address: Annotated[
        str, typer.Argument(help="An e-mail address, or - to read it from standard input.")
    ],
    *,
    because: Annotated[str, typer.Option("--because", help="What shows it; kept as evidence.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Note an explicit opt-in: the only thing that ends an opt-out.

    It is refused for an address that complained or bounced for good. Boxes in the CRM stay as they
    are, because nothing here loosens them: the records whose box is still ticked are named.
    """
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - imports alembic
    from crm_pipeline.warehouse.opting_in import note_opt_in  # noqa: PLC0415 - as above

    installation = Installation.from_environment()
    words = sys.stdin.readline() if address == "-" else address
    noted = note_opt_in(installation.warehouse(), installation.settings, words, because)
    if as_json:
        print_json(asdict(noted))
        return
    stdout().print("The opt-in is noted. It counts from the next build of the models on.")
    if noted.withdrawn:
        stderr().print(f"{noted.withdrawn:,} ticks that waited for the CRM are not sent any more.")
    if noted.on_their_way:
        stderr().print(
            f"{noted.on_their_way:,} ticks are on their way to the CRM just now. Those that get"
            " through stand there until a person un-ticks them; the others are not sent again."
        )
    for name, ids in noted.still_ticked.items():
        stderr().print(
            f"The box is still ticked in the CRM on {name} {', '.join(ids)}. The CRM itself sends"
            " no mail there until a person un-ticks it. As long as it stays ticked it counts as old"
            " news here; ticked anew, it is an opt-out again.",
            markup=False,
        )
