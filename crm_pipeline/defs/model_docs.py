"""The marketing models as one page of HTML, with every column's description and the lineage.

Belongs here: having dbt write it. Does not belong here: where the project stands (dbt_project.py),
arguments and sentences (cli/model_docs.py).
"""

import os
import shutil
import subprocess
from pathlib import Path

from crm_pipeline.defs.dbt_project import DbtProject, connection_variables
from crm_pipeline.errors import PermanentError

_SECONDS = 600


def write_model_docs(project: DbtProject, url: str, folder: Path) -> Path:
    """Write the page; it stands alone, and asks nothing of the network.

    The warehouse is only read: types and comments of what was built, and nothing of its rows.

    Args:
        project: the models, as the settings file switches them.
        url: the warehouse.
        folder: made if it is not there; a page that is there is replaced.

    Returns:
        The page.

    Raises:
        PermanentError: dbt could not; the sentence carries its own.
    """
    with project.target("docs") as target:
        done = subprocess.run(
            [*project.command("docs", "generate", target=target), "--static"],
            env={**os.environ, **project.environment(connection_variables(url))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        written = target / "static_index.html"
        if done.returncode != 0 or not written.exists():
            said = (done.stdout + done.stderr).strip().splitlines()[-8:]
            raise PermanentError("dbt cannot describe its models: " + "\n".join(said))
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(written, folder / "index.html"))
