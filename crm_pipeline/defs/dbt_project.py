"""Where the dbt project stands, what it is told, and its parsed manifest.

The project is parsed once and never again until its files or variables change: parsing takes 4 to 5
seconds, and every run's worker loads this location. Nor is dagster_dbt used, whose import alone
costs each of those processes 2 s of CPU and 87 MB; the manifest is JSON, and dbt is a command.

Belongs here: files, variables and environment of dbt. Does not belong here: what its models mean in
Dagster (marketing_models.py).
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from crm_pipeline.config.settings import Settings
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.warehouse.conditions import condition

PROJECT_NAME = "dbt_marketing"
PARTIAL_PARSE = "partial_parse.msgpack"
"""What dbt keeps of a parsed project, so that the next command need not parse it."""
_PREFIX = "CRM_PIPELINE_DBT_"
_LEFT_OUT = frozenset({"target", "logs", "dbt_packages", "__pycache__"})
_PARSE_SECONDS = 300
# As a module it warns, and its script need not be on PATH.
_DBT = "from dbt.cli.main import cli; cli()"


@dataclass(frozen=True, slots=True)
class DbtProject:
    """The dbt project with the variables of one settings file.

    Attributes:
        folder: its sources, which are only read.
        variables: dbt vars: which objects there are, and what their columns are called.
        work: where dbt writes, one folder per state of sources and variables.
        schema: where the marts go.
    """

    folder: Path
    variables: Mapping[str, Any]
    work: Path
    schema: str

    @property
    def manifest_file(self) -> Path:
        """What parsing produces."""
        return self.work / "manifest.json"

    def manifest(self) -> dict[str, Any]:
        """The parsed project; parses it if nobody has since it changed.

        Raises:
            ConfigurationError: dbt cannot parse it; the sentence carries dbt's own.
        """
        if not self.manifest_file.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            with (self.work / "parse.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.manifest_file.exists():
                    self._parse()
        found: dict[str, Any] = json.loads(self.manifest_file.read_bytes())
        return found

    def _parse(self) -> None:
        aside = self.work / "parsing"
        command = [*self.command("parse", target=aside), "--no-partial-parse"]
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment({})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PARSE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()[-8:]
            raise ConfigurationError("dbt cannot parse its project: " + "\n".join(said))
        # Last, and by renaming: whoever sees the manifest sees all of it.
        for name in (PARTIAL_PARSE, "manifest.json"):
            (aside / name).replace(self.work / name)

    @contextmanager
    def target(self, purpose: str) -> Iterator[Path]:
        """A folder for what one command writes; what was parsed is taken along, and kept after it.

        What was parsed serves one connection only, so the first command over another one parses
        once more.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.work, prefix=f"{purpose}-") as folder:
            kept, taken = self.work / PARTIAL_PARSE, Path(folder) / PARTIAL_PARSE
            if kept.exists():
                shutil.copy(kept, taken)
            yield Path(folder)
            if taken.exists():
                taken.replace(kept)

    def command(self, *verb: str, target: Path) -> list[str]:
        """A dbt command line; no secret ever stands in it."""
        return [
            *(sys.executable, "-c", _DBT, "--no-use-colors", "--log-path", str(target)),
            *(*verb, "--project-dir", str(self.folder), "--profiles-dir", str(self.folder)),
            *("--target-path", str(target), "--vars", json.dumps(self.variables)),
        ]

    def environment(self, connection: Mapping[str, str]) -> dict[str, str]:
        """What profiles.yml asks the environment for."""
        return {
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
            f"{_PREFIX}SCHEMA": self.schema,
            **{f"{_PREFIX}{name}": value for name, value in connection.items()},
        }


def find_project(settings: Settings, home: Path) -> DbtProject:
    """The project beside the package, or inside it where it was installed as a wheel.

    Raises:
        ConfigurationError: it is in neither place.
    """
    package = Path(__file__).parents[1]
    places = (package.parent / PROJECT_NAME, package / PROJECT_NAME)
    folder = next((place for place in places if (place / "dbt_project.yml").exists()), None)
    if folder is None:
        raise ConfigurationError(
            f"The dbt project {PROJECT_NAME} is missing; put it beside the package crm_pipeline, "
            "or set `marketing: {enabled: false}` in the settings file."
        )
    variables = project_variables(settings)
    digest = _digest(folder, variables, settings.marketing.target_schema)
    work = home.resolve() / "dbt" / digest
    return DbtProject(folder, variables, work, settings.marketing.target_schema)


def project_variables(settings: Settings) -> dict[str, Any]:
    """The operator's choices as dbt's variables.

    Objects are switches: by object, its table and its columns by field. Audiences are SQL.
    """
    objects: dict[str, Any] = {
        name.lower(): {
            "table": chosen.table_name(name),
            "columns": {m.field.lower().replace(".", "_"): m.column for m in chosen.columns},
        }
        for name, chosen in settings.enabled_objects.items()
    }
    if settings.reference_data:
        objects["users"] = {"table": "users"}
    return {
        "crm_schema": settings.crm.type,
        "crm_objects": objects,
        "consent_is_read": settings.write_backs.consent.direction.is_read,
        # As text within the text, for dbt reads YAML, to which JSON's rare characters are halves.
        # And in a list, for a plain text would be rendered as a template.
        "audiences": [json.dumps(_told_audiences(settings))],
    }


def _told_audiences(settings: Settings) -> dict[str, dict[str, str]]:
    """By name: the description, and either a condition or a query, both ready to be run."""
    told: dict[str, dict[str, str]] = {}
    for name, audience in settings.marketing.audiences.items():
        told[name] = {"description": audience.description}
        if audience.condition is not None:
            told[name]["condition"] = condition(audience.condition, FACTS)
        elif audience.query is not None:
            told[name]["query"] = audience.query
    return told


def connection_variables(url: str) -> dict[str, str]:
    """A warehouse's address in the pieces that profiles.yml takes."""
    _, _, rest = url.partition("://")
    parts = {k: str(v) for k, v in conninfo_to_dict(f"postgresql://{rest}").items() if v}
    return {
        "HOST": parts.get("host", "localhost"),
        "PORT": parts.get("port", "5432"),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "DATABASE": parts.get("dbname", ""),
        "SSLMODE": parts.get("sslmode", "prefer"),
        "SSLROOTCERT": parts.get("sslrootcert", ""),
    }


def _digest(folder: Path, variables: Mapping[str, Any], schema: str) -> str:
    told = [version("dbt-core"), schema, json.dumps(variables, sort_keys=True)]
    digest = hashlib.sha256("\n".join(told).encode())
    for file in _sources(folder):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> Sequence[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not _LEFT_OUT.intersection(file.relative_to(folder).parts)
    )
