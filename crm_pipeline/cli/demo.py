"""`crm-pipeline demo`: everything at once, on a simulated org, without a line of configuration.

Belongs here: the story that the demo tells, in its order. Does not belong here: the org
(demo_org.py), the one headless round (demo_once.py), services and their supervision.
"""

import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crm_pipeline.cli.console import stdout
from crm_pipeline.cli.demo_events import readers, write_history
from crm_pipeline.cli.demo_org import DemoOrg, enter_demo, start_org, wait_for_org
from crm_pipeline.cli.services import require_loopback
from crm_pipeline.cli.supervisor import Service, Supervisor, supervised
from crm_pipeline.cli.up import Port, bring_up_dagster, bring_up_database, watch
from crm_pipeline.errors import UsageError
from crm_pipeline.warehouse import ledger
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from crm_pipeline.sync.assembly import Installation

OBJECTS = (
    "Lead",
    "Account",
    "Contact",
    "Opportunity",
    "Case",
    "Task",
    "Campaign",
    "CampaignMember",
    "Event_Registration__c",
)
KEY_FIELD_ON = ("Lead", "Contact")
LIVE_SECONDS = 5.0
EVENT_SECONDS = 20.0
EVENTS_FOLDER = "events"
_IN_THE_BIN = 12
_HOME = Path(".crm_pipeline") / "demo"
_ONCE = "once"
_MARK = "this_is_a_demo"
_QUESTION = "-c 'TABLE crm_sync.sync_status' -c 'TABLE salesforce.event_registration__c LIMIT 5'"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog="Example: crm-pipeline demo --once")(demo)


def demo(
    *,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="One round without a UI: full sync, edits, one scheduled sync, stop."
        ),
    ] = False,
    records: Annotated[int, typer.Option(help="Records of the simulated org, about.")] = 20_000,
    port: Port = 3000,
) -> None:
    """Run everything against a simulated Salesforce org on this machine.

    Nothing to configure: it starts PostgreSQL and an org in which records change every few
    seconds, runs the first full sync, and serves the Dagster UI with schedule and sensors until
    Ctrl-C. The next demo goes on with the data; it lives in .crm_pipeline/demo, or in
    CRM_PIPELINE_HOME.
    """
    home = Path(os.environ.get("CRM_PIPELINE_HOME") or _HOME).resolve()
    console = stdout()
    story = Story(console)
    if once:
        from crm_pipeline.cli.demo_once import run_once  # noqa: PLC0415 - imports Dagster

        fresh = fresh_home(home / _ONCE)
        with supervised(fresh / "logs", story.tell) as supervisor:
            stage = set_stage(supervisor, fresh, story, records=records, live_seconds=0.0)
            run_once(supervisor, stage, story)
        story.tell(f"Everything is stopped. The whole round took {story.seconds:.0f} s.")
        return
    home.mkdir(parents=True, exist_ok=True)
    with supervised(home / "logs", story.tell) as supervisor:
        stage = set_stage(supervisor, home, story, records=records, live_seconds=LIVE_SECONDS)
        _stay(supervisor, stage, story, port)


@dataclass
class Story:
    """What the demo says, and when."""

    console: Console
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.started

    def tell(self, sentence: str) -> None:
        """One step of the demo, with the seconds so far in front."""
        self.console.print(f"[{self.seconds:5.1f} s] {sentence}", markup=False)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that both kinds of demo need, up and running."""

    installation: "Installation"
    org: DemoOrg


def fresh_home(home: Path) -> Path:
    """An empty folder; an older round's is thrown away, and nothing else ever is.

    Raises:
        UsageError: the folder holds something that no demo has written.
    """
    mark = home / _MARK
    if mark.exists():
        EmbeddedPostgres(home).stop()
        shutil.rmtree(home)
    elif home.exists() and any(home.iterdir()):
        raise UsageError(f"{home} holds something that is no demo's; move it away.")
    home.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return home


def set_stage(
    supervisor: Supervisor, home: Path, story: Story, *, records: int, live_seconds: float
) -> Stage:
    """Bring up org and database, and write the settings file if there is none."""
    org = start_org(supervisor, home, records=records, live_seconds=live_seconds)
    enter_demo(org, home)
    # They import the connector and the migrations, while the org invents its people.
    from crm_pipeline.cli.init import write_settings  # noqa: PLC0415
    from crm_pipeline.config.settings import CrmSettings  # noqa: PLC0415
    from crm_pipeline.crm.registry import make_connector  # noqa: PLC0415
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415
    from crm_pipeline.writeback.field_setup import set_up_fields  # noqa: PLC0415

    installation = Installation.from_environment()
    environment = installation.environment
    crm = CrmSettings()
    bring_up_database(environment, supervisor, crm.type)
    story.tell("PostgreSQL runs, and its control tables are there.")
    wait_for_org(supervisor, org)
    story.tell(f"The sandbox org answers at {org.address} with {org.record_count():,} records.")
    # Something to bring back later: an org that people work in has a full recycle bin.
    org.edit(deletes=_IN_THE_BIN)
    if not environment.config_file.exists():
        connector = make_connector(crm, environment)
        try:
            # Twice: what the write-backs need is made by the first file, and mapped by the second.
            for _ in range(2):
                fields = write_settings(
                    connector, OBJECTS, environment.config_file, crm.api_version, everything_on=True
                )
                made = set_up_fields(installation.settings, connector, key_field_on=KEY_FIELD_ON)
        finally:
            connector.close()
        story.tell(
            f"Wrote {_near(environment.config_file)} from the org's describe: {len(OBJECTS)} "
            f"objects, {fields} fields, {len(made.fields)} of them for write-backs."
        )
    return Stage(installation, org)


def full_sync(stage: Stage, story: Story, objects: tuple[str, ...] = ()) -> None:
    """Run the Dagster job full_sync here, and show what it did."""
    # It imports Dagster.
    from crm_pipeline.cli.progress import console_on_a_copy  # noqa: PLC0415
    from crm_pipeline.cli.sync import run_job  # noqa: PLC0415

    story.tell("Full sync: the Dagster job full_sync.")
    report = run_job(
        stage.installation,
        "full_sync",
        lambda _: ({"objects": list(objects), "resume": True}, {}),
        console=console_on_a_copy(),
        expected_objects=objects or tuple(stage.installation.settings.enabled_objects),
    )
    report.show(story.console)
    report.require_success()


def write_past_events(stage: Stage, story: Story) -> None:
    """Three months of what people of the org did, unless an earlier demo has written them."""
    if stage.installation.settings.events.folder is None:
        return
    files = write_history(
        events_folder(stage), readers(stage.installation.warehouse()), datetime.now(UTC)
    )
    if files:
        story.tell(
            f"Wrote {len(files)} files of marketing events into {_near(events_folder(stage))}."
        )


def events_folder(stage: Stage) -> Path:
    """Where the demo's settings file says that files of events are."""
    folder = stage.installation.environment.home / EVENTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stay(supervisor: Supervisor, stage: Stage, story: Story, port: int) -> None:
    environment = stage.installation.environment
    host = require_loopback("127.0.0.1", allow_remote=False)
    due = _never_synced(stage)
    if due:
        full_sync(stage, story, due)
    else:
        story.tell("The tables are there from an earlier demo: going on with them.")
    write_past_events(stage, story)
    services = bring_up_dagster(environment, supervisor, story.console, host=host, port=port)
    command = [sys.executable, "-m", "crm_pipeline.cli.demo_events"]
    command += ["--folder", str(events_folder(stage)), "--seconds", str(EVENT_SECONDS)]
    supervisor.start(Service("marketing events", command))
    story.tell(f"The Dagster UI is at {services.address}")
    _point_out(stage, story, services.address)
    watch(environment, supervisor, services, story.console)


def _never_synced(stage: Stage) -> tuple[str, ...]:
    rows = ledger.read_status(stage.installation.warehouse())
    synced = {row["object_name"] for row in rows if row["synced_through"] is not None}
    return tuple(n for n in stage.installation.settings.enabled_objects if n not in synced)


def _point_out(stage: Stage, story: Story, address: str) -> None:
    home = stage.installation.environment.home
    server = EmbeddedPostgres(home)
    port = server.url().rpartition(":")[2].partition("/")[0]
    name = "crm_pipeline"
    story.console.print(
        f"\nIn the org, records change every {LIVE_SECONDS:.0f} seconds, and every "
        f"{EVENT_SECONDS:.0f} its people visit, open and click. What to look at:\n"
        f"  {address}/jobs               full_sync: Materialize all, or its arrow\n"
        f"  {address}/automation         differential_schedule: on, every hour\n"
        f"  {address}/jobs/load_events   files of marketing events, loaded as they come\n"
        f"  {address}/jobs/write_back    opt-outs, scores, visits and touches, on their way back\n"
        f"  {address}/jobs/actions       strangers who send a form become leads\n"
        f"  {address}/assets             one asset per table; press Materialize to read changes\n"
        f"  {_near(home / 'crm_sync.yaml')}   the settings; the UI follows when you save them\n"
        "Query the tables:\n"
        f"  PGPASSWORD=$(cat {_near(home / 'postgres' / 'password')}) {_near(server.psql_path)} "
        f"-h 127.0.0.1 -p {port} -U {name} {name} \\\n"
        f"    {_QUESTION}\n"
        "Ctrl-C stops everything, PostgreSQL too.",
        markup=False,
    )


def _near(path: Path) -> str:
    """The path as somebody in this folder would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
