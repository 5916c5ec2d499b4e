"""What write-backs are measured against: bare clients that send prepared bytes, and nothing else.

Bodies are made before the clock starts. Nothing is retried, compared, noted or settled; answers are
read and only their number of successes is looked at.

Belongs here: these clients. Does not belong here: ours (write_back_speed.py).
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import requests
from bare import API, BareClient

Change = tuple[str, int]
"""A record's id and its new value."""

ROWS_PER_CALL = 200
ROWS_PER_JOB = 100_000
_JSON = {"Content-Type": "application/json", "Sforce-Auto-Assign": "FALSE"}
_LOOK_SECONDS = 0.05


class BareWriter:
    """Writes one field of one object, counting its calls."""

    def __init__(self, url: str, object_name: str, field: str) -> None:
        client = BareClient(url)
        self._url, self._session = url + API, client.session
        self._object, self._field = object_name, field
        self.calls = 0

    def collections(self, changes: Sequence[Change], *, at_once: int) -> float:
        """Seconds for collections of 200, so many side by side."""
        bodies = [
            self._collection(changes[start : start + ROWS_PER_CALL])
            for start in range(0, len(changes), ROWS_PER_CALL)
        ]
        started = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            written = sum(pool.map(self._send, bodies))
        taken = time.monotonic() - started
        self._require(written, len(changes))
        return taken

    def jobs(self, changes: Sequence[Change]) -> float:
        """Seconds for Bulk 2.0 ingest jobs, one after the other."""
        contents = [
            "\n".join(
                (
                    f"Id,{self._field}",
                    *(f"{one},{value}" for one, value in changes[start : start + ROWS_PER_JOB]),
                    "",
                )
            ).encode()
            for start in range(0, len(changes), ROWS_PER_JOB)
        ]
        started = time.monotonic()
        written = sum(map(self._job, contents))
        taken = time.monotonic() - started
        self._require(written, len(changes))
        return taken

    def one_by_one(self, changes: Sequence[Change]) -> float:
        """Seconds for a call per record."""
        started = time.monotonic()
        for record_id, value in changes:
            self._answered(
                "PATCH",
                f"/sobjects/{self._object}/{record_id}",
                data=json.dumps({self._field: value}),
                headers=_JSON,
            )
        return time.monotonic() - started

    def _collection(self, changes: Sequence[Change]) -> bytes:
        records = [
            {"attributes": {"type": self._object}, "Id": record_id, self._field: value}
            for record_id, value in changes
        ]
        return json.dumps({"allOrNone": False, "records": records}).encode()

    def _send(self, body: bytes) -> int:
        answer = self._answered("PATCH", "/composite/sobjects", data=body, headers=_JSON)
        return sum(one["success"] for one in answer.json())

    def _job(self, content: bytes) -> int:
        made = self._answered(
            "POST",
            "/jobs/ingest",
            json={
                "object": self._object,
                "operation": "update",
                "contentType": "CSV",
                "lineEnding": "LF",
            },
        )
        job = f"/jobs/ingest/{made.json()['id']}"
        headers = {"Content-Type": "text/csv; charset=UTF-8"}
        self._answered("PUT", f"{job}/batches", data=content, headers=headers)
        self._answered("PATCH", job, json={"state": "UploadComplete"})
        while self._answered("GET", job).json()["state"] != "JobComplete":
            time.sleep(_LOOK_SECONDS)
        written = self._answered("GET", f"{job}/successfulResults").content.count(b"\n") - 1
        self._answered("GET", f"{job}/failedResults")
        self._answered("DELETE", job)
        return written

    def _answered(self, method: str, path: str, **facts: object) -> requests.Response:
        self.calls += 1  # only tells: two threads may lose a count, so collections know theirs
        answer = self._session.request(method, self._url + path, timeout=600, **facts)  # type: ignore[arg-type]
        answer.raise_for_status()
        return answer

    @staticmethod
    def _require(written: int, wanted: int) -> None:
        if written != wanted:
            raise SystemExit(f"the bare client wrote {written} of {wanted}")
