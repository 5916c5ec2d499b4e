"""From the settings file to Settings, or to sentences that say what to write instead.

Holds reading the file and the translation of everything that can be wrong with it. Belongs here:
wording and lines. Does not belong here: the rules themselves (settings.py, document.py).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from crm_pipeline.config.document import Document, read_document
from crm_pipeline.config.faults import Accepts, Fault, Location, SettingFaults
from crm_pipeline.config.names import did_you_mean, listed, printable, show
from crm_pipeline.config.settings import Settings
from crm_pipeline.errors import ConfigurationError

MAXIMUM_FILE_BYTES = 1_000_000
_SECRETS = re.compile(
    r"secret|passw|token|private_?key|client_?id|user_?name|database_?url", re.IGNORECASE
)


def load_settings(path: Path | str) -> Settings:
    """The settings in a file.

    Args:
        path: a UTF-8 YAML file of at most 1 MB.

    Raises:
        ConfigurationError: the file is missing or wrong; every fault has its line and says what to
            write, and `line` is the first fault's.
    """
    file = printable(str(path), limit=300)
    document = read_document(_read(Path(path), file), file=file)
    try:
        return Settings.model_validate(document.content)
    except ValidationError as error:
        faults = [fault for details in error.errors() for fault in _faults(details)]
    raise _one_error(faults, document, file)


def _read(path: Path, file: str) -> str:
    """The file's text."""
    if not path.exists():
        raise ConfigurationError(
            "there is no such file; run `crm-pipeline init` to write one, or set "
            "CRM_PIPELINE_CONFIG to where it is.",
            file=file,
        )
    if not path.is_file():
        raise ConfigurationError("this is not a regular file; name a YAML file.", file=file)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"the file cannot be read ({error.strerror}); allow this user to read it.", file=file
        ) from error
    if len(content) > MAXIMUM_FILE_BYTES:
        raise ConfigurationError(
            "the file is larger than 1 MB; settings are small, so this is another file.", file=file
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            "the file is not UTF-8; save it with that encoding.", file=file, line=line
        ) from error


def _one_error(faults: Iterable[Fault], document: Document, file: str) -> ConfigurationError:
    """All faults as one error, in the order of the file."""
    placed = sorted({(document.line_of(f.at), _sentence(f)) for f in faults})
    first_line, first = placed[0]
    if len(placed) == 1:
        return ConfigurationError(first, file=file, line=first_line)
    lines = "".join(f"\n  line {line}: {sentence}" for line, sentence in placed)
    return ConfigurationError(
        f"{len(placed)} settings need a change:{lines}", file=file, line=first_line
    )


def _sentence(fault: Fault) -> str:
    """The fault with its place in front: `objects.Lead.fields[2]`: what is wrong."""
    place = ""
    for part in fault.at:
        place += f"[{part}]" if isinstance(part, int) else f".{printable(part)}"
    return f"`{place.lstrip('.')}`: {fault.sentence}" if place else fault.sentence


def _faults(details: ErrorDetails) -> list[Fault]:
    """What one of pydantic's errors means."""
    location = details["loc"]
    raised = details.get("ctx", {}).get("error")
    if isinstance(raised, SettingFaults):
        return [Fault((*location, *fault.at), fault.sentence) for fault in raised.faults]
    match details["type"]:
        case "extra_forbidden":
            return [Fault(location, _unknown_key(location))]
        case "missing":
            return [Fault(location, f"this setting is missing; write {_acceptable(location)}.")]
        case "too_short" if details["input"]:
            return []  # only faulty items are left out of the count, and each of them is named
        case _:
            wrong = show(details["input"])
            return [Fault(location, f"{wrong} does not fit; write {_acceptable(location)}.")]


def _unknown_key(location: Location) -> str:
    """What to say about a key that no section has."""
    key = str(location[-1])
    if _SECRETS.search(key):
        return (
            "secrets and logins do not belong in this file; remove the line and set the "
            "environment variable (SALESFORCE_..., CRM_PIPELINE_DATABASE_URL)."
        )
    model, _ = _setting_at(location[:-1])
    known = model.model_fields if model else {}
    near = did_you_mean(key, known)
    if near:
        return f"there is no such setting; did you mean `{near}`?"
    return f"there is no such setting; remove it or write one of {listed(known)}."


def _acceptable(location: Location) -> str:
    """What a setting takes, in words."""
    model, setting = _setting_at(location)
    accepted = (
        next((a for a in setting.metadata if isinstance(a, Accepts)), None) if setting else None
    )
    if accepted:
        return accepted.words
    return f"settings below it ({listed(model.model_fields if model else {})}) or remove it"


def _setting_at(location: Location) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The section and the setting that a location leads to; items of a list have no setting."""
    model: type[BaseModel] | None = Settings
    setting: FieldInfo | None = None
    is_key_of_many = False
    for part in location:
        if is_key_of_many:
            setting, is_key_of_many = None, False
            continue
        setting = model.model_fields.get(str(part)) if model else None
        annotation = setting.annotation if setting else None
        is_key_of_many = get_origin(annotation) in {dict, tuple}
        model = _section_in(annotation)
    return model, setting


def _section_in(annotation: object) -> type[BaseModel] | None:
    """The section that an annotation holds, directly or in a list or mapping."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
