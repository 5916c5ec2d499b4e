"""Canaries: words that must be found nowhere, and a search that opens everything.

Holds what is planted (secrets, people), where it is looked for (streams, files, databases,
processes) and what may hold it. Belongs here: searching. Does not belong here: the story in which
canaries are planted (cases/test_s_secrets.py).
"""

import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

PERSON: Mapping[str, str] = {
    "FirstName": "Kanarella",
    "LastName": "Zwitscherling",
    "Company": "Piepmatz Geheim Betrieb",
    "Email": "kanarella@zwitscher.example",
    "Phone": "+49 555 0137731",
    "Street": "Nachtigallenstieg 71",
    "City": "Vogelsdorfhausen",
    "Description": "allergic to Quetzalfedern",
}
"""A lead that no log may know."""
PEOPLE_WORDS = (
    *("Kanarella", "Zwitscherling", "Piepmatz", "zwitscher.example", "0137731"),
    *("Nachtigallenstieg", "Vogelsdorfhausen", "Quetzalfedern"),
)
FILTER_WORD = "Kolibrifiltername"
"""Stands in a record filter of the settings file, and so in queries to the org."""
CLIENT_SECRET = "canary-client-secret-Wellensittich"
_TOKEN = re.compile(rb"00D[0-9A-Za-z]{12}![\w-]{20}")


@dataclass
class Canaries:
    """The words, and every place that was found to hold one."""

    words: dict[str, bytes] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    places: int = 0

    def plant(self, *words: str) -> None:
        """Look for these words from now on."""
        self.words |= {word: word.encode() for word in words}

    def search(self, place: str, content: bytes | str) -> None:
        """Look into a text, also as it is when JSON or a repr has escaped it."""
        raw = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        self.places += 1
        for word, encoded in self.words.items():
            if encoded in raw:
                at = raw.index(encoded)
                around = raw[max(0, at - 200) : at + 100].decode(errors="replace")
                self.found.append(f"{place} holds {word!r}: …{around}…")
        if token := _TOKEN.search(raw):
            self.found.append(f"{place} holds an access token: {token[0].decode()[:30]}…")

    def search_folder(self, folder: Path, *, leave_out: Callable[[Path], bool]) -> None:
        """Look into every file below a folder, its name included."""
        for file in folder.rglob("*"):
            if file.is_file() and not leave_out(file):
                with suppress(FileNotFoundError):
                    self.search(f"file {file}", str(file).encode() + b"\n" + file.read_bytes())

    def search_database(self, url: str, *, leave_out: Callable[[str], bool]) -> int:
        """Look into every row of every table; packed values are unpacked.

        Args:
            url: of the database.
            leave_out: says of `schema.table` whether it may hold what is looked for.

        Returns:
            How many rows were looked at.
        """
        rows = 0
        with psycopg.connect(url) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for schema, table in tables:
                if leave_out(f"{schema}.{table}"):
                    continue
                query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))
                for row in connection.execute(query):
                    rows += 1
                    for value in row:
                        self.search(f"table {schema}.{table}", _unpacked(value))
        return rows

    @contextmanager
    def watching_processes(self) -> Iterator[set[str]]:
        """Look at the arguments of every process of this machine while the block runs."""
        seen: set[str] = set()
        stopped = threading.Event()

        def look() -> None:
            while not stopped.wait(0.02):
                for entry in Path("/proc").glob("[0-9]*/cmdline"):
                    with suppress(OSError):
                        seen.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield seen
        finally:
            stopped.set()
            watcher.join()
            for arguments in seen:
                self.search("arguments of a process", arguments)

    def require_silence(self) -> None:
        """Fail with every place that holds a canary."""
        assert self.words, "nothing was planted"
        assert not self.found, "\n".join(dict.fromkeys(self.found))


def _unpacked(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        packed = bytes(value)
        with suppress(zlib.error):
            return zlib.decompress(packed)
        return packed
    return str(value).encode(errors="surrogateescape")
