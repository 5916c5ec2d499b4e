"""Where files of events may come from: a folder, or a URL of a store that is allowed.

Belongs here: what an operator may write for `events.folder`. Does not belong here: listing and
opening (events/files.py).
"""

import re
from pathlib import Path

from crm_pipeline.config.faults import Fault, SettingFaults
from crm_pipeline.config.names import listed, show

PROTOCOLS = ("s3", "gs", "gcs", "az", "abfs", "memory")
"""Stores that can be listed and that send bytes encrypted; `memory` is for tests, and always empty.

Others of fsspec's protocols run commands, follow links to anywhere, or read this machine's files.
"""
_OFFERED = tuple(f"{protocol}://" for protocol in PROTOCOLS if protocol != "memory")


def protocol_of(folder: str) -> str | None:
    """The protocol of a URL; None for a path."""
    found = re.match(r"([A-Za-z0-9+.:-]*)://", folder)
    return found[1].lower() if found else None


def checked_folder(value: str) -> str:
    """Refuse what can be neither a folder nor an allowed URL."""
    protocol = protocol_of(value)
    if protocol is not None and protocol not in PROTOCOLS:
        raise SettingFaults(
            Fault(
                (),
                f"{show(protocol + '://')} is not allowed; write a folder, or a URL that "
                f"begins with {listed(_OFFERED)}.",
            )
        )
    if protocol is not None and "@" in value.partition("://")[2].partition("/")[0]:
        raise SettingFaults(
            Fault(
                (),
                "a URL must not carry a key; the store's own variables do, such as "
                "AWS_ACCESS_KEY_ID.",
            )
        )
    if not value.strip() or "\0" in value:
        raise SettingFaults(Fault((), "is empty; write a folder, or leave the line out."))
    return value


def absolute_folder(folder: str, *, beside: Path) -> str:
    """A URL as it is, and a path as seen from the folder of the settings file."""
    if protocol_of(folder) is not None:
        return folder
    return str((beside.resolve().parent / Path(folder).expanduser()).resolve())
