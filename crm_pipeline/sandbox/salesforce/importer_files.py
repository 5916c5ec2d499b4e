"""Reading the files real tools export, into records that still carry the files' own references.

Belongs here: the two formats (sObject tree JSON with its plan, CSV with a header). Does not
belong here: putting the records into an org (importer.py), guessing types (importer_types.py).
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

_serial = count(1)


class ImportRefused(ValueError):
    """A file that cannot go into the org; the message names the file and what to change."""


@dataclass(slots=True)
class FileRecord:
    """One record of a file: where it stood, what it is called there, what it holds.

    `tokens` are the words by which other records refer to it: `@refId` and its old Id. `parents`
    are the tokens of the records it was nested in, by their object.
    """

    object_name: str
    place: str
    values: dict[str, Any]
    old_id: str | None = None
    tokens: tuple[str, ...] = ()
    parents: dict[str, str] = field(default_factory=dict)


def read_trees(paths: Iterable[Path]) -> list[FileRecord]:
    """All records of tree files and plans; a file named twice (plan and list) counts once."""
    records: list[FileRecord] = []
    seen: set[Path] = set()
    for path in paths:
        for file in _tree_files(path):
            if file.resolve() in seen:
                continue
            seen.add(file.resolve())
            records.extend(_tree_records(file))
    return records


def _tree_files(path: Path) -> Iterator[Path]:
    """The tree files behind a path: a directory's, a plan's, or the path itself."""
    if path.is_dir():
        for inside in sorted(path.glob("*.json")):
            yield from _tree_files(inside)
        return
    content = _json(path)
    if not isinstance(content, list):
        yield path
        return
    for step in content:
        if not isinstance(step, dict) or "files" not in step:
            raise ImportRefused(f"{path.name}: every step of a plan needs `sobject` and `files`")
        for name in step["files"]:
            yield path.parent / str(name)


def _json(path: Path) -> Any:
    try:
        # Decimals keep all digits; a float would lose cents of large amounts.
        return json.loads(path.read_text("utf-8-sig"), parse_float=Decimal)
    except OSError as error:
        raise ImportRefused(f"{path.name}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ImportRefused(f"{path.name}: is not JSON in UTF-8 ({error})") from error


def _tree_records(path: Path) -> Iterator[FileRecord]:
    content = _json(path)
    if not isinstance(content, dict) or not isinstance(content.get("records"), list):
        raise ImportRefused(f'{path.name}: a tree file is an object with a list called "records"')
    for place, entry in enumerate(content["records"], start=1):
        yield from _flattened(entry, f"{path.name}, record {place}", {})


def _flattened(entry: Any, place: str, parents: dict[str, str]) -> Iterator[FileRecord]:
    """The record and, after it, the children nested in it."""
    attributes = entry.get("attributes") if isinstance(entry, dict) else None
    if not isinstance(attributes, dict) or "type" not in attributes:
        raise ImportRefused(f"{place}: a record needs attributes with its type")
    name = str(attributes["type"])
    own = f"@{attributes.get('referenceId') or f' nested {next(_serial)}'}"
    record = FileRecord(name, place, {}, tokens=(own,), parents=parents)
    children: list[Any] = []
    for key, value in entry.items():
        if key == "attributes":
            continue
        if isinstance(value, dict):
            # A parent shown beside its Id, or a compound address: both repeat other fields.
            children.extend(value.get("records", ()))
        else:
            record.values[key] = value
    _name_by_id(record)
    yield record
    for child in children:
        yield from _flattened(child, f"{place}, child", {name: own})


def read_csv(object_name: str, path: Path) -> list[FileRecord]:
    """All records of a CSV export; an empty cell is null."""
    csv.field_size_limit(sys.maxsize if sys.maxsize < 1 << 31 else (1 << 31) - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(_csv_records(object_name, path, csv.reader(stream, strict=True)))
    except OSError as error:
        raise ImportRefused(f"{path.name}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ImportRefused(f"{path.name}: is not a CSV file in UTF-8 ({error})") from error


def _csv_records(object_name: str, path: Path, rows: Iterator[list[str]]) -> Iterator[FileRecord]:
    header = [name.strip() for name in next(rows, [])]
    if not header or len({name.lower() for name in header}) < len(header):
        raise ImportRefused(f"{path.name}: the first line must name each column once")
    for number, cells in enumerate(rows, start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise ImportRefused(
                f"{path.name}, row {number}: {len(cells)} cells under {len(header)} columns"
            )
        values = {name: cell or None for name, cell in zip(header, cells, strict=True)}
        record = FileRecord(object_name, f"{path.name}, row {number}", values)
        _name_by_id(record)
        yield record


def _name_by_id(record: FileRecord) -> None:
    key = next((one for one in record.values if one.lower() == "id"), None)
    old = record.values.pop(key) if key else None
    if old:
        record.old_id = str(old)
        record.tokens = (*record.tokens, str(old))
