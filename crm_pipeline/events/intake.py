"""The intake: which files are new, and loading them one by one.

A file that cannot be read is refused, remembered and told; the others are loaded all the same. Only
what would stop every file stops the intake: the database, the store, the off switch.

Belongs here: that loop. Does not belong here: one file's way (loading.py), and when an intake
begins (defs/, cli/).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crm_pipeline.errors import PermanentError
from crm_pipeline.events.files import EventFile, EventFolder
from crm_pipeline.events.loading import load_file, refuse_file
from crm_pipeline.model.events import FileOutcome
from crm_pipeline.warehouse.connection import Warehouse

MOST_AT_ONCE = 500
"""Files of one intake; the next one goes on with the rest."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an intake would load.

    Attributes:
        files: new or changed ones, by location.
        left_aside: names of files that can hold no events.
    """

    files: tuple[EventFile, ...]
    left_aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intake:
    """What an intake did.

    Attributes:
        files: by file, in the order in which they were loaded.
        waiting: files that are left for the next intake.
    """

    files: tuple[FileOutcome, ...] = ()
    waiting: int = 0
    left_aside: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(one.rows for one in self.files)

    @property
    def loaded(self) -> int:
        """Events that are new."""
        return sum(one.loaded for one in self.files)

    @property
    def known(self) -> int:
        """Events that were there already."""
        return sum(one.known for one in self.files)

    @property
    def rejected(self) -> int:
        """Rows that went to the quarantine."""
        return sum(one.rejected for one in self.files)

    @property
    def seconds(self) -> float:
        """Spent on files."""
        return sum(one.seconds for one in self.files)

    @property
    def refused(self) -> tuple[FileOutcome, ...]:
        """Files of which nothing could be read."""
        return tuple(one for one in self.files if one.refusal is not None)


def waiting_files(warehouse: Warehouse, folder: EventFolder) -> Waiting:
    """Files that are new, or changed since they were read.

    Raises:
        CrmPipelineError: the folder or the warehouse cannot be asked.
    """
    listing = folder.listing()
    if not listing.files:
        return Waiting((), listing.left_aside)
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT location, version FROM events.event_file WHERE location = ANY(%s)",
            [[file.location for file in listing.files]],
        ).fetchall()
    seen = {(str(location), str(version)) for location, version in rows}
    new = tuple(f for f in listing.files if (f.location, f.version) not in seen)
    return Waiting(new, listing.left_aside)


def take_in(
    warehouse: Warehouse,
    folder: EventFolder,
    *,
    run_id: str,
    require_enabled: Callable[[], None],
    most: int = MOST_AT_ONCE,
) -> Intake:
    """Load what is waiting, file by file.

    Args:
        warehouse: migrated.
        folder: where the files are.
        run_id: who does it; remembered with each file.
        require_enabled: raises when the off switch is off; asked before every file.
        most: files at most.

    Raises:
        CrmPipelineError: what stops every file. Those loaded before stay loaded.
    """
    waiting = waiting_files(warehouse, folder)
    chosen = waiting.files[:most]
    outcomes = load_files(warehouse, folder, chosen, run_id=run_id, require_enabled=require_enabled)
    return Intake(outcomes, len(waiting.files) - len(chosen), waiting.left_aside)


def load_files(
    warehouse: Warehouse,
    folder: EventFolder,
    files: Sequence[EventFile],
    *,
    run_id: str,
    require_enabled: Callable[[], None],
) -> tuple[FileOutcome, ...]:
    """Load these files; one that is gone meanwhile, or that somebody else has loaded, is left out.

    Raises:
        CrmPipelineError: what stops every file.
    """
    outcomes = []
    for file in files:
        require_enabled()
        try:
            with folder.opened(file) as stream:
                outcome = load_file(warehouse, file, stream, run_id=run_id)
        except FileNotFoundError:
            continue
        except PermanentError as error:
            outcome = refuse_file(warehouse, file, str(error), run_id=run_id)
        if outcome is not None:
            outcomes.append(outcome)
    return tuple(outcomes)
