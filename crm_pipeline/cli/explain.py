"""`crm-pipeline explain`: the record passport, one timeline of a person with its evidence.

Belongs here: arguments, tables and sentences. Does not belong here: what is known of people
(sync/explain.py).
"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from crm_pipeline.cli.console import print_json, stdout, table_of
from crm_pipeline.errors import UsageError

if TYPE_CHECKING:
    from crm_pipeline.warehouse.passport import Passport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", epilog="Example: crm-pipeline explain ada@example.com")(explain)


def explain(
    who: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="An e-mail address, or - to read it from standard input.",
        ),
    ],
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="The newest so many entries.")
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Print one timeline of what was read, said, decided and written about a person, and why.

    Changes of her records, marketing events, every row of the consent ledger with its evidence,
    changes of her score, and write-backs with their ends. Reads the warehouse only. What it prints
    is personal data.
    """
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - imports alembic
    from crm_pipeline.sync.explain import explain_person  # noqa: PLC0415
    from crm_pipeline.sync.forget import person_named  # noqa: PLC0415

    installation = Installation.from_environment()
    words = sys.stdin.readline() if who == "-" else who
    if "@" not in words:
        raise UsageError("Name an e-mail address, such as ada@example.com.")
    passport = explain_person(
        installation.warehouse(), installation.settings, person_named(words, None, None)
    )
    if as_json:
        entries = [asdict(entry) for entry in passport.timeline[-limit:]]
        print_json({"now": passport.now, "timeline": entries})
    else:
        _show(passport, limit)


def _show(passport: "Passport", limit: int) -> None:
    console = stdout()
    if not passport.timeline and not any(passport.now.values()):
        console.print("Nothing here tells of this person.", markup=False)
        return
    consent = {
        "email": "Address",
        "status": "Consent",
        "since": "Since",
        "side": "Said by",
        "evidence": "Evidence",
    }
    scores = {
        name: name.replace("_", " ").capitalize()
        for name in (
            *("total_score", "contact_score", "activity_score", "engagement_score"),
            *("manual_score", "scored_on"),
        )
    }
    records = [
        {**row, "state": "living" if row["is_living"] else "gone"}
        for row in passport.now["records"]
    ]
    for rows, columns in (
        (records, {"object": "Object", "id": "Id", "state": "State"}),
        (passport.now["consent"], consent),
        (passport.now["scores"], scores),
        (
            [asdict(entry) for entry in passport.timeline[-limit:]],
            {"at": "When", "side": "Side", "says": "What", "evidence": "Evidence"},
        ),
    ):
        if rows:
            console.print(table_of(rows, columns), soft_wrap=False)
    if len(passport.timeline) > limit:
        console.print(
            f"The newest {limit:,} of {len(passport.timeline):,} entries; --limit shows more.",
            markup=False,
        )
