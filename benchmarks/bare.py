"""What we are measured against: the limit and the floor, written by hand and as short as can be.

The limit is one COPY of the very bytes that the CRM hands over into a typed table, then its primary
key: no network, no checkpoints, nothing to compare. The floor is a bare script that gets the same
done over the wire: pages streamed into COPY by two connections; changed records copied into a
temporary table and upserted. It retries nothing, verifies nothing and remembers nothing.

Belongs here: both. Does not belong here: the engine.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
import requests
from psycopg import sql

from crm_pipeline.warehouse.schema import Column

API = "/services/data/v62.0"
CREDENTIALS = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
_TABLE = sql.Identifier("public", "bench")


@dataclass(frozen=True)
class Question:
    """What the engine asks the CRM for, and the columns that take the answer."""

    soql: str
    operation: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> sql.Composed:
        """The columns, in the order of the answer."""
        return sql.SQL(", ").join(sql.Identifier(c.name) for c in self.columns)

    def copying_into(self, table: sql.Identifier) -> sql.Composed:
        """COPY for a page with its header line."""
        return sql.SQL(
            "COPY {} ({names}) FROM STDIN WITH (FORMAT csv, HEADER true, FORCE_NULL ({names}))"
        ).format(table, names=self.names)


class BareClient:
    """The least that reads an org."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        answer = self.session.post(
            f"{url}/services/oauth2/token",
            data={"grant_type": "client_credentials", **CREDENTIALS},
            timeout=30,
        )
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self.session.headers["Accept-Encoding"] = "identity"

    def pages(self, question: Question) -> list[str]:
        """Addresses of the pages of a Bulk result, once the job is done."""
        jobs = f"{self.url}{API}/jobs/query"
        body = {"operation": question.operation, "query": question.soql}
        made = self.session.post(jobs, json=body, timeout=30)
        made.raise_for_status()
        job = f"{jobs}/{made.json()['id']}"
        while (state := self.session.get(job, timeout=30).json()["state"]) != "JobComplete":
            if state in ("Failed", "Aborted"):
                raise SystemExit(f"the org's job ended as {state}")
            time.sleep(0.05)
        links: list[str] = []
        following: str | None = f"{job}/resultPages"
        while following:
            answer = self.session.get(self._absolute(following), timeout=30).json()
            links += [self._absolute(page["resultUrl"]) for page in answer["resultPages"]]
            following = None if answer["done"] else answer["nextRecordsUrl"]
        return links

    def _absolute(self, link: str) -> str:
        return link if link.startswith("http") else self.url + link

    def chunks(self, page: str) -> Iterator[bytes]:
        """Bytes of a page, header line included."""
        with self.session.get(page, stream=True, timeout=60) as answer:
            yield from answer.raw.stream(1 << 18)

    def records(self, question: Question) -> Iterator[list[Any]]:
        """Values of the records that REST answers, page after page."""
        resource = f"{self.url}{API}/{question.operation}"
        answer = self.session.get(resource, params={"q": question.soql}, timeout=60).json()
        while True:
            for record in answer["records"]:
                yield [record[column.source] for column in question.columns]
            if answer["done"]:
                return
            answer = self.session.get(self._absolute(answer["nextRecordsUrl"]), timeout=60).json()


def download(org: BareClient, question: Question, folder: Path) -> list[Path]:
    """Keep all pages of a Bulk result as files."""
    folder.mkdir(exist_ok=True)
    files = []
    for number, page in enumerate(org.pages(question)):
        file = folder / str(number)
        with file.open("wb") as target:
            target.writelines(org.chunks(page))
        files.append(file)
    return files


def copy_files(database: str, question: Question, files: list[Path]) -> None:
    """The limit: COPY of all bytes, then the key."""
    with psycopg.connect(database) as connection:
        _create(connection, question)
        for file in files:
            copying = question.copying_into(_TABLE)
            with connection.cursor().copy(copying) as copy, file.open("rb") as source:
                while chunk := source.read(1 << 18):
                    copy.write(chunk)
        _key(connection, question)


def stream_everything(database: str, url: str, question: Question) -> None:
    """The floor of reading everything: the pages of a job into a new table, then the key."""
    org = BareClient(url)
    left: SimpleQueue[str] = SimpleQueue()
    for page in org.pages(question):
        left.put(page)
    with psycopg.connect(database) as connection:
        _create(connection, question)

    def drain() -> None:
        with psycopg.connect(database) as connection:
            while True:
                try:
                    page = left.get_nowait()
                except Empty:
                    return
                with connection.cursor().copy(question.copying_into(_TABLE)) as copy:
                    for chunk in org.chunks(page):
                        copy.write(chunk)
                connection.commit()

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with psycopg.connect(database) as connection:
        _key(connection, question)


def upsert_changes(database: str, url: str, question: Question, transport: str) -> None:
    """The floor of a differential: what changed, by the engine's transport, upserted."""
    org = BareClient(url)
    changed = sql.Identifier("pg_temp", "changed")
    key = _key_of(question)
    with psycopg.connect(database) as connection:
        connection.execute(
            sql.SQL("CREATE TEMP TABLE changed (LIKE {}) ON COMMIT DROP").format(_TABLE)
        )
        if transport == "rest":
            plain = sql.SQL("COPY {} ({}) FROM STDIN").format(changed, question.names)
            with connection.cursor().copy(plain) as copy:
                for values in org.records(question):
                    copy.write_row(values)
        else:
            for page in org.pages(question):
                with connection.cursor().copy(question.copying_into(changed)) as copy:
                    for chunk in org.chunks(page):
                        copy.write(chunk)
        connection.execute(
            sql.SQL(
                "INSERT INTO {} ({names}) SELECT {names} FROM {} ON CONFLICT ({key}) DO UPDATE"
                " SET {sets}"
            ).format(
                _TABLE,
                changed,
                names=question.names,
                key=key,
                sets=sql.SQL(", ").join(
                    sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c.name))
                    for c in question.columns
                ),
            )
        )


def _create(connection: psycopg.Connection, question: Question) -> None:
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_TABLE))
    columns = sql.SQL(", ").join(c.definition for c in question.columns)
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(_TABLE, columns))
    connection.commit()


def _key(connection: psycopg.Connection, question: Question) -> None:
    connection.execute(
        sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(_TABLE, _key_of(question))
    )


def _key_of(question: Question) -> sql.Identifier:
    return next(sql.Identifier(c.name) for c in question.columns if c.source == "Id")
