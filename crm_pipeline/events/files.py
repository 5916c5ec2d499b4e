"""Files of events: which there are in a folder or under an object store's URL, and opening one.

A file is known by its location and its version, which changes whenever the file does. Nothing
outside of the folder is ever opened: links that lead out of it are left aside.

Belongs here: listing and opening. Does not belong here: what stands in a file (formats.py) and
which files are new (intake.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from crm_pipeline.config.event_folder import protocol_of
from crm_pipeline.errors import ConfigurationError, PermanentError, TransientError
from crm_pipeline.events.formats import is_event_file

_LEFT_ALONE = (".", "_", "~")
"""How names of files begin that are somebody's own: hidden, half-written, a lock."""
_MARKS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified")
"""What object stores call that which changes with a file, the surest first."""
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


@dataclass(frozen=True, slots=True)
class EventFile:
    """One file in one state.

    Attributes:
        location: its whole path or URL.
        name: how people know it: the path below the folder.
        version: differs as soon as the file does.
    """

    location: str
    name: str
    version: str
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: those that can hold events, by location.
        left_aside: names of others, and of links that lead out of the folder.
    """

    files: tuple[EventFile, ...]
    left_aside: tuple[str, ...]


class EventFolder(Protocol):
    """Where files of events come from."""

    def listing(self) -> Listing:
        """Every file below it, however deep.

        Raises:
            ConfigurationError: there is no such folder.
            TransientError: the store does not answer.
        """
        ...

    def opened(self, file: EventFile) -> Any:
        """A context in which the file can be read.

        Raises:
            FileNotFoundError: it is gone by now.
            PermanentError: it may not be read.
            TransientError: the store does not answer.
        """
        ...


def event_folder(folder: str) -> EventFolder:
    """The folder that the settings name.

    Args:
        folder: an absolute path, or a URL whose protocol the settings allow.
    """
    protocol = protocol_of(folder)
    return LocalFolder(Path(folder)) if protocol is None else ObjectStore(protocol, folder)


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine."""

    path: Path

    def listing(self) -> Listing:
        """Every file below it; of what is linked, only what lies in it."""
        if not self.path.is_dir():
            raise ConfigurationError(
                f"events.folder: there is no folder {self.path}; create it, or name another one."
            )
        root = self.path.resolve()
        files: list[EventFile] = []
        left_aside: list[str] = []
        for found in sorted(root.rglob("*")):
            name = found.relative_to(root)
            if not found.is_file() or _is_left_alone(PurePosixPath(name)):
                continue
            if is_event_file(found.name) and found.resolve().is_relative_to(root):
                files.append(_local(found, name.as_posix()))
            else:
                left_aside.append(name.as_posix())
        return Listing(tuple(files), tuple(left_aside))

    @contextmanager
    def opened(self, file: EventFile) -> Iterator[IO[bytes]]:
        """Its bytes; a file that became a link to the outside since is refused."""
        path = Path(file.location)
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise PermanentError(f"{file.name} leads out of the events folder; put a copy there.")
        with _readable(path, file.name) as stream:
            yield stream


@dataclass(frozen=True, slots=True)
class SingleFiles:
    """Files that a person named, wherever they lie."""

    paths: tuple[Path, ...]

    def listing(self) -> Listing:
        """Those files.

        Raises:
            ConfigurationError: one of them is no file, or its name tells no format.
        """
        for path in self.paths:
            if not path.is_file():
                raise ConfigurationError(f"There is no file {path}.")
            if not is_event_file(path.name):
                raise ConfigurationError(
                    f"{path.name} can be no file of events; its name must end in .csv, .jsonl, "
                    ".ndjson, .json or .parquet, or in one of the first three and .gz."
                )
        return Listing(tuple(_local(path.resolve(), path.name) for path in self.paths), ())

    @contextmanager
    def opened(self, file: EventFile) -> Iterator[IO[bytes]]:
        """Its bytes."""
        with _readable(Path(file.location), file.name) as stream:
            yield stream


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A prefix in an object store, through fsspec.

    Credentials are the store's own business: its library finds them in the environment.
    """

    protocol: str
    url: str

    def listing(self) -> Listing:
        """Every object under the prefix."""
        files: list[EventFile] = []
        left_aside: list[str] = []
        with _told_by(self.protocol):
            system = _file_system(self.protocol)
            root = str(system._strip_protocol(self.url)).rstrip("/")  # noqa: SLF001 - its documented way
            found: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
        for path, facts in sorted(found.items()):
            name = path.removeprefix(root).lstrip("/")
            if facts.get("type") == "directory" or _is_left_alone(PurePosixPath(name)):
                continue
            if is_event_file(name):
                location = f"{self.protocol}://{path.lstrip('/')}"
                files.append(EventFile(location, name, _mark(facts), int(facts.get("size") or 0)))
            else:
                left_aside.append(name)
        return Listing(tuple(files), tuple(left_aside))

    @contextmanager
    def opened(self, file: EventFile) -> Iterator[IO[bytes]]:
        """Its bytes, as they come."""
        with _told_by(self.protocol), _file_system(self.protocol).open(file.location) as stream:
            yield stream


def _local(path: Path, name: str) -> EventFile:
    facts = path.stat()
    return EventFile(str(path), name, f"{facts.st_mtime_ns} {facts.st_size}", facts.st_size)


def _is_left_alone(name: PurePosixPath) -> bool:
    return any(part.startswith(_LEFT_ALONE) for part in name.parts)


def _mark(facts: Mapping[str, Any]) -> str:
    mark = next((facts[key] for key in _MARKS if facts.get(key)), facts.get("created"))
    return f"{mark} {facts.get('size')}"


@contextmanager
def _readable(path: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except PermissionError as error:
        raise PermanentError(
            f"{name} may not be read by us; change its permissions, then: crm-pipeline events "
            "rejected --retry"
        ) from error
    with stream:
        yield stream


def _file_system(protocol: str) -> Any:
    import fsspec  # noqa: PLC0415 - only who has a store pays for it

    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise ConfigurationError(
            f"events.folder: for {protocol}:// the package {_PACKAGES.get(protocol, protocol)} is "
            "needed; install it beside CRM Pipeline."
        ) from error


@contextmanager
def _told_by(protocol: str) -> Iterator[None]:
    """Errors of a store's library in our words: their own may quote addresses and keys."""
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise ConfigurationError(
            f"events.folder: the {protocol} store does not let us read there; check the "
            "credentials in the environment and the bucket's policy."
        ) from error
    except (OSError, TimeoutError) as error:
        raise TransientError(
            f"The {protocol} store of the events folder does not answer ({type(error).__name__})."
        ) from error
