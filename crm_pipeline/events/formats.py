"""Formats of event files: how each becomes what COPY takes, without a look at single rows.

| name ends in | is read as | by |
|---|---|---|
| .csv | columns of the contract, separated by commas, with a header | pyarrow |
| .jsonl, .ndjson | one JSON object per line | PostgreSQL; here it stays bytes |
| .parquet | columns of the contract | pyarrow |
| .json | a list, or one object: of the contract, SendGrid's or Postmark's | Python |

The first three may be packed by gzip (.gz), Parquet packs itself. Belongs here: from bytes of a
file to bytes for staging, and rows that are no rows at all. Does not belong here: whether a value
is right (loading.py), and the senders' own formats (webhooks.py).
"""

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from csv import reader
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import IO, Any

import orjson

from crm_pipeline.errors import PermanentError
from crm_pipeline.events.webhooks import Unreadable, contract_row
from crm_pipeline.model import characters
from crm_pipeline.model.events import COLUMNS, REQUIRED_COLUMNS

WHOLE_ROW = "(whole row)"
LONGEST_ROW = 1 << 20
"""Bytes; a row that is longer is no event, and would be held in memory."""
LONGEST_KEPT = 10_000
"""Characters of a rejected row that the quarantine keeps."""
_CHUNK = 1 << 20
_BATCH_ROWS = 20_000
_LARGEST_DOCUMENT = 256 << 20
"""Bytes of a .json file, which is read whole."""
_MOST_EXPANSION = 200
"""Times that a packed file may grow; events grow five- to thirtyfold, bombs a thousandfold."""
_FREE_EXPANSION = 64 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# White space between tokens of JSON, and NUL, which JSON forbids just like the sign in its place.
_FOR_COPY = bytes.maketrans(b"\r\t\0", b"  \x1f")


class Format(StrEnum):
    """What a file's name says of its content."""

    CSV = "csv"
    JSON_LINES = "json lines"
    JSON = "json"
    PARQUET = "parquet"


_ENDINGS = {
    ".csv": Format.CSV,
    ".jsonl": Format.JSON_LINES,
    ".ndjson": Format.JSON_LINES,
    ".json": Format.JSON,
    ".parquet": Format.PARQUET,
}


@dataclass(frozen=True, slots=True)
class Misfit:
    """A row of which not even columns can be told."""

    row_number: int
    column: str
    reason: str
    row: str


@dataclass(slots=True)
class Reading:
    """A file on its way into staging.

    Attributes:
        columns: the staging columns that the pages fill.
        copy_options: the format in which COPY gets them.
        pages: bytes for COPY.
        rows: rows in the pages so far.
        misfits: rows so far that are in no page.
    """

    columns: tuple[str, ...]
    copy_options: str
    pages: Iterator[bytes] = field(default_factory=lambda: iter(()))
    rows: int = 0
    misfits: list[Misfit] = field(default_factory=list)

    @property
    def has_documents(self) -> bool:
        """Whether rows come as JSON documents, and not as columns."""
        return "document" in self.columns


def format_of(name: str) -> tuple[Format, bool] | None:
    """The format by a file's name, and whether it is packed; None for a file of something else."""
    plain = name.lower()
    is_packed = plain.endswith(".gz")
    plain = plain.removesuffix(".gz")
    found = next((form for ending, form in _ENDINGS.items() if plain.endswith(ending)), None)
    if found is None or (is_packed and found is Format.PARQUET):
        return None
    return found, is_packed


def is_event_file(name: str) -> bool:
    """Whether a file of that name can hold events."""
    return format_of(name) is not None


def is_plain_name(name: str) -> bool:
    """Whether a column's name can be told: anything else may be a value."""
    return re.fullmatch("[A-Za-z(][A-Za-z0-9_ ;()-]{0,99}", name) is not None


def reading_of(name: str, stream: IO[bytes]) -> Reading:
    """Begin to read a file.

    Args:
        name: tells the format.
        stream: its bytes; Parquet must be able to seek in them.

    Raises:
        PermanentError: what makes the whole file unreadable; more may come with the pages.
    """
    found = format_of(name)
    assert found is not None, "the listing leaves other files aside"
    form, is_packed = found
    if form is Format.PARQUET:
        return _parquet(stream)
    chunks = _without_mark(_unpacked(stream) if is_packed else _chunks(stream))
    match form:
        case Format.CSV:
            return _csv(chunks)
        case Format.JSON_LINES:
            return _json_lines(chunks)
        case Format.JSON:
            return _json(chunks)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _unpacked(stream: IO[bytes]) -> Iterator[bytes]:
    """What gzip packed, a chunk at a time, and no more of it than a file of events can hold."""
    packer = zlib.decompressobj(wbits=31)
    taken = given = 0
    try:
        for packed in _chunks(stream):
            taken += len(packed)
            rest = packed
            while rest:
                if packer.eof:  # a file may be several packed ones in a row
                    packer = zlib.decompressobj(wbits=31)
                chunk = packer.decompress(rest, _CHUNK)
                given += len(chunk)
                if given > _FREE_EXPANSION and given > taken * _MOST_EXPANSION:
                    raise PermanentError(
                        f"It unpacks to more than {_MOST_EXPANSION} times its size, as no file of "
                        "events does. Unpack it yourself if it is one."
                    )
                rest = packer.unused_data if packer.eof else packer.unconsumed_tail
                if chunk:
                    yield chunk
    except zlib.error as error:
        raise PermanentError("It cannot be unpacked: gzip's data is broken.") from error
    if not packer.eof:
        raise PermanentError("It cannot be unpacked: it breaks off in the middle.")


def _without_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks without the sign by which some programs mark UTF-8."""
    given = iter(chunks)
    first = next(given, b"")
    if first.startswith(_UTF_16):
        raise PermanentError("It is UTF-16; save it as UTF-8.")
    if rest := first.removeprefix(codecs.BOM_UTF8):
        yield rest
    yield from given


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks cut after a line's end, so that no character is cut."""
    rest = b""
    for chunk in chunks:
        head, end, tail = chunk.rpartition(b"\n")
        if not end:
            rest += tail
        else:
            yield rest + head + end
            rest = tail
        if len(rest) > LONGEST_ROW:
            raise PermanentError(
                f"One of its rows is longer than {LONGEST_ROW:,} bytes; no event is so long. A row "
                "ends with the line."
            )
    if rest:
        yield rest


def _storable(lines: bytes) -> bytes:
    """Bytes that are UTF-8; what is not becomes U+FFFD."""
    try:
        lines.decode()
    except UnicodeDecodeError:
        return lines.decode(errors="replace").encode()
    return lines


def _json_lines(chunks: Iterable[bytes]) -> Reading:
    """Each line as a text, which PostgreSQL parses: a broken one is refused alone."""
    reading = Reading(("document",), "FORMAT text, ENCODING 'UTF8', NULL ''")

    def pages() -> Iterator[bytes]:
        for lines in _whole_lines(chunks):
            page = _storable(lines).translate(_FOR_COPY).replace(b"\\", b"\\\\")
            page = page if page.endswith(b"\n") else page + b"\n"
            reading.rows += page.count(b"\n")
            yield page

    reading.pages = pages()
    return reading


def _json(chunks: Iterable[bytes]) -> Reading:
    """A list of objects, or one: of the contract, or a sender's own."""
    reading = Reading(("row_number", "document"), "FORMAT text, ENCODING 'UTF8'")
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > _LARGEST_DOCUMENT:
            raise PermanentError(
                f"It is larger than {_LARGEST_DOCUMENT >> 20} MB, and a .json file is read whole. "
                "Split it, or write one event per line into a .jsonl file."
            )
    try:
        found = orjson.loads(_storable(bytes(content)))
    except orjson.JSONDecodeError as error:
        raise PermanentError(
            f"It is broken JSON at line {error.lineno}, column {error.colno}. One event per line "
            "goes into a .jsonl file."
        ) from error
    given: list[object] = found if isinstance(found, list) else [found]

    def pages() -> Iterator[bytes]:
        for number, row in enumerate(given, start=1):
            try:
                document = orjson.dumps(contract_row(row))
            except Unreadable as problem:
                shown = orjson.dumps(row).decode()[:LONGEST_KEPT]
                reading.misfits.append(Misfit(number, problem.column, problem.reason, shown))
                continue
            reading.rows += 1
            yield b"%d\t%b\n" % (number, document.replace(b"\\", b"\\\\"))

    reading.pages = _joined(pages())
    return reading


def _joined(pages: Iterable[bytes]) -> Iterator[bytes]:
    """Fewer and larger pieces."""
    held: list[bytes] = []
    size = 0
    for page in pages:
        held.append(page)
        size += len(page)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _columns_reading(names: Iterable[str]) -> Reading:
    columns = tuple(names)
    unknown = [name for name in columns if name not in COLUMNS]
    twice = {name for name in columns if columns.count(name) > 1}
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if unknown and not is_plain_name(unknown[0]):
        # A file without a header: what stands there is somebody's data.
        raise PermanentError("It has no header: the first line must name the columns.")
    if unknown:
        raise PermanentError(
            f"Column {unknown[0]!r} is none of the contract's: {', '.join(COLUMNS)}. Whatever "
            "else there is goes into properties, as a JSON object. Columns are separated by commas."
        )
    if twice or missing:
        problem = f"Column {min(twice)} stands in it twice." if twice else ""
        raise PermanentError(problem or f"Column {missing[0]} is missing.")
    options = "FORMAT csv, ENCODING 'UTF8'"
    return Reading(("row_number", *columns), options)


def _csv(chunks: Iterable[bytes]) -> Reading:
    """Every column as text; a row with more or fewer values than the header is a misfit."""
    import pyarrow as pa  # noqa: PLC0415 - 50 ms and 60 MB, for those who load
    from pyarrow import csv  # noqa: PLC0415

    pieces = map(_clean, _whole_lines(chunks))
    first = next(pieces, b"")
    names = _header(first)
    reading = _columns_reading(name.strip().lower() for name in names)
    misshapen: list[Misfit] = []

    def keep(row: Any) -> str:
        reason = f"has {row.actual_columns} values under {row.expected_columns} column names"
        misshapen.append(Misfit(row.number, WHOLE_ROW, reason, row.text[:LONGEST_KEPT]))
        return "skip"

    def pages() -> Iterator[bytes]:
        numbers = _RowNumbers(misshapen)
        try:
            for batch in csv.open_csv(
                pa.PythonFile(_Pieces(chain([first], pieces)), mode="r"),
                read_options=csv.ReadOptions(use_threads=False, block_size=_CHUNK),
                parse_options=csv.ParseOptions(
                    newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=keep
                ),
                convert_options=csv.ConvertOptions(
                    column_types={name: pa.string() for name in names},
                    strings_can_be_null=True,
                    null_values=[""],
                    check_utf8=False,
                ),
            ):
                reading.rows += batch.num_rows
                yield _as_csv([numbers.of_next(batch.num_rows), *batch.columns])
        except pa.ArrowInvalid as error:
            raise PermanentError(
                f"It is no CSV that can be read after row {numbers.last:,}: most often a quotation "
                "mark is opened there and not closed."
            ) from error
        finally:
            reading.misfits += misshapen

    reading.pages = pages()
    return reading


def _clean(lines: bytes) -> bytes:
    return _storable(characters.without_nul(lines)[0])


def _header(first: bytes) -> list[str]:
    """The first line's names."""
    line = first.partition(b"\n")[0].decode()
    if not line.strip():
        raise PermanentError("It has no header: the first line must name the columns.")
    return next(reader([line.rstrip("\r")]))


class _Pieces:
    """Pieces of bytes as a file that pyarrow can read."""

    closed = False

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """At most so many bytes; nothing at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        given, self._rest = self._rest[:size], self._rest[size:]
        return given

    def close(self) -> None:
        """Whoever opened what is behind it closes that."""


class _RowNumbers:
    """Row numbers as an editor of tables shows them, for rows that come without the misfits.

    Attributes:
        last: the last number that was given; the header is row 1.
    """

    def __init__(self, misfits: Sequence[Misfit]) -> None:
        self._misfits = misfits
        self._passed = 0
        self.last = 1

    def of_next(self, count: int) -> Any:
        """Numbers of the next rows."""
        import pyarrow as pa  # noqa: PLC0415 - see _csv

        left_out = {one.row_number for one in self._misfits[self._passed :]}
        self._passed = len(self._misfits)
        reach = range(self.last + 1, self.last + 1 + count + len(left_out))
        found = [number for number in reach if number not in left_out][:count]
        # Misfits of rows that are still to come must not be passed over.
        last = found[-1] if found else self.last
        self._passed -= sum(number > last for number in left_out)
        self.last = last
        return pa.array(found, pa.int64())


def _as_csv(columns: Sequence[Any]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - see _csv
    from pyarrow import csv  # noqa: PLC0415

    batch = pa.record_batch(columns, names=[str(n) for n in range(len(columns))])
    written = pa.BufferOutputStream()
    csv.write_csv(batch, written, csv.WriteOptions(include_header=False))
    page: bytes = written.getvalue().to_pybytes()
    return page


def _parquet(stream: IO[bytes]) -> Reading:
    """Every column as text: times in UTC, nested properties as JSON."""
    import pyarrow as pa  # noqa: PLC0415 - see _csv
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(stream)
        reading = _columns_reading(name.lower() for name in file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise PermanentError("It is no Parquet file, or a part of it is missing.") from error

    def pages() -> Iterator[bytes]:
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                numbers = pa.array(range(reading.rows + 1, reading.rows + batch.num_rows + 1))
                texts = [
                    _as_text(name, column)
                    for name, column in zip(reading.columns[1:], batch.columns, strict=True)
                ]
                reading.rows += batch.num_rows
                yield _clean(_as_csv([numbers, *texts]))
        except (pa.ArrowException, OSError) as error:
            raise PermanentError(f"It cannot be read after row {reading.rows:,}.") from error

    reading.pages = pages()
    return reading


def _as_text(name: str, column: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - see _csv

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_nested(kind):
        rows = column.to_pylist()
        return pa.array(
            [
                None if row is None else orjson.dumps(_plain(row), default=str).decode()
                for row in rows
            ],
            pa.string(),
        )
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise PermanentError(f"Column {name} is of type {kind}; write it as text.") from error


def _plain(row: object) -> object:
    """A map of Parquet, which arrives as pairs, as an object."""
    if isinstance(row, list) and all(isinstance(one, tuple) and len(one) == 2 for one in row):
        return {str(key): value for key, value in row}
    return row
