"""The Dagster processes: code server, webserver and daemon, and how to tell that they answer.

Three processes side by side answer in a few seconds; `dagster dev` takes 14 to 39 s, because it
starts one after the other and watches files. Belongs here: command lines, ports, the workspace
file. Does not belong here: keeping them alive (supervisor.py).
"""

import ipaddress
import json
import socket
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crm_pipeline.cli.dagster_home import DagsterHome
from crm_pipeline.cli.supervisor import Service
from crm_pipeline.errors import PermanentError, UsageError

LOCATION = "crm_pipeline"
MODULE = "crm_pipeline.definitions"
_PORTS_TRIED = 50
_WORKSPACE = """\
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: {location}
"""
_ERROR = "locationOrLoadError { ... on PythonError { message } }"


@dataclass(frozen=True, slots=True)
class DagsterServices:
    """The three, not yet started.

    Attributes:
        code_port: loopback port of the code server.
        address: where this machine reaches the UI.
    """

    code_server: Service
    webserver: Service
    daemon: Service
    code_port: int
    address: str

    def has_code(self) -> bool:
        """Whether the code server takes connections."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.code_port)) == 0

    def has_definitions(self) -> bool:
        """Whether the UI answers and shows our definitions.

        Raises:
            PermanentError: the code server lives, but the definitions cannot be loaded.
        """
        try:
            entries = self.ask(
                f"{{workspaceOrError {{... on Workspace {{locationEntries {{{_ERROR}}}}}}}}}"
            )["workspaceOrError"]["locationEntries"]
        except OSError:
            return False
        for entry in entries:
            message = (entry["locationOrLoadError"] or {}).get("message")
            if message is None:
                return entry["locationOrLoadError"] is not None
            if "UserCodeUnreachable" not in message:
                raise PermanentError(f"The definitions cannot be loaded: {message.strip()}")
        return False

    def runs_in_progress(self) -> int:
        """How many runs are queued or at work."""
        found = self.ask(
            "{runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]})"
            " {... on Runs {results {id}}}}"
        )
        return len(found["runsOrError"].get("results", ()))

    def ask(self, query: str) -> dict[str, Any]:
        """The answer to a GraphQL request to the UI."""
        request = urllib.request.Request(  # noqa: S310 - our own http address
            f"{self.address}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return dict(json.load(answer)["data"])


def dagster_services(home: DagsterHome, *, host: str, port: int) -> DagsterServices:
    """The services of a home; the UI listens on `host` and `port`."""
    code_port = free_port()
    workspace = home.folder / "workspace.yaml"
    workspace.write_text(_WORKSPACE.format(port=code_port, location=LOCATION), encoding="utf-8")
    programs = Path(sys.executable).parent
    python = (sys.executable, "-W", "ignore")
    served = ("-w", str(workspace))
    reached = "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    shown = f"[{reached}]" if ":" in reached else reached
    return DagsterServices(
        code_server=Service(
            "code server",
            (
                *python,
                *("-m", "dagster", "api", "grpc", "--module-name", MODULE),
                *("--host", "127.0.0.1", "--port", str(code_port), "--location-name", LOCATION),
                *("--use-python-environment-entry-point", "--log-level", "warning"),
            ),
            home.variables,
        ),
        webserver=Service(
            "webserver",
            (*python, str(programs / "dagster-webserver"), *served, "-h", host, "-p", str(port)),
            home.variables,
        ),
        daemon=Service(
            "daemon",
            (*python, str(programs / "dagster-daemon"), "run", *served),
            home.variables,
        ),
        code_port=code_port,
        address=f"http://{shown}:{port}",
    )


def require_loopback(host: str, *, allow_remote: bool) -> str:
    """The address to bind to, as digits.

    Raises:
        UsageError: other machines could reach it, and nobody said that they may.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise UsageError(f"--host takes an IP address such as 127.0.0.1, not {host}.") from error
    if not address.is_loopback and not allow_remote:
        raise UsageError(
            f"{host} can be reached from other machines, and the Dagster UI asks nobody for a "
            "password. Put a proxy with a login in front of 127.0.0.1, or pass --allow-remote."
        )
    return str(address)


def first_free_port(host: str, port: int) -> int:
    """The wanted port, or the next one that is free.

    Raises:
        UsageError: none of the next ones is.
    """
    for candidate in range(port, min(port + _PORTS_TRIED, 65_536)):
        if _is_free(host, candidate):
            return candidate
    raise UsageError(f"No port from {port} to {port + _PORTS_TRIED} is free; choose with --port.")


def free_port() -> int:
    """Any free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
