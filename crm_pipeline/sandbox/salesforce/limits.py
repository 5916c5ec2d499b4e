"""How many API calls and Bulk queries the org still answers today.

Belongs here: the budget, its header, the /limits resource. Does not belong here: which
requests count (server.py).
"""

import threading
from typing import Any

from crm_pipeline.sandbox.salesforce.failures import OrgError

_OTHERS = {
    "ConcurrentAsyncGetReportInstances": 200,
    "DailyAsyncApexExecutions": 250_000,
    "DailyStreamingApiEvents": 10_000,
    "DataStorageMB": 10_240,
    "FileStorageMB": 10_240,
    "HourlyTimeBasedWorkflow": 1_000,
    "MassEmail": 5_000,
    "SingleEmail": 5_000,
}


_BULK_BATCHES = 15_000
_BULK_JOBS = 10_000
_BULK_KILOBYTES = 1_000_000_000


class ApiLimit:
    """The daily budgets; every answered request takes a call, every Bulk query a job.

    With an `app_maximum`, the connected app has a share of its own, and the header names it.
    """

    def __init__(self, maximum: int = 1_000_000) -> None:
        self._lock = threading.Lock()
        self.maximum = maximum
        self.remaining = maximum
        self.app_maximum = 0
        self.app_used = 0
        self.app_name = "sandbox-client"
        self.bulk_batches = _BULK_BATCHES
        self.bulk_jobs = _BULK_JOBS
        self.bulk_kilobytes = _BULK_KILOBYTES

    def set(self, remaining: int, maximum: int | None = None) -> None:
        """Say what is left, and of how much."""
        with self._lock:
            self.maximum = maximum if maximum is not None else max(self.maximum, remaining)
            self.remaining = remaining

    def take(self) -> None:
        """Use one call; REQUEST_LIMIT_EXCEEDED when none is left."""
        with self._lock:
            app_is_out = self.app_maximum and self.app_used >= self.app_maximum
            if self.remaining <= 0 or app_is_out:
                raise OrgError(
                    "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403
                )
            self.remaining -= 1
            self.app_used += 1

    def take_bulk_job(self) -> None:
        """Use one Bulk query job; LIMIT_EXCEEDED when none is left, or no room for results."""
        with self._lock:
            if self.bulk_jobs <= 0:
                raise OrgError(
                    "LIMIT_EXCEEDED",
                    f"Max bulk v2 query jobs ({_BULK_JOBS}) per 24 hrs has been reached "
                    f"({_BULK_JOBS})",
                )
            if self.bulk_kilobytes <= 0:
                raise OrgError(
                    "LIMIT_EXCEEDED",
                    f"Max bulk v2 query result size stored ({_BULK_KILOBYTES}) kb per 24 hrs "
                    "has been exceeded",
                )
            self.bulk_jobs -= 1

    def take_batches(self, count: int) -> None:
        """Use so many batches of ingest jobs; LIMIT_EXCEEDED when there are not so many left."""
        with self._lock:
            if count > self.bulk_batches:
                raise OrgError("LIMIT_EXCEEDED", "Max bulk batches per 24 hrs has been reached")
            self.bulk_batches -= count

    def store(self, size_bytes: int) -> None:
        """Use room for a result."""
        with self._lock:
            self.bulk_kilobytes -= -(-size_bytes // 1024)

    def header(self) -> str:
        """What Sforce-Limit-Info says."""
        usage = f"api-usage={self.maximum - self.remaining}/{self.maximum}"
        if not self.app_maximum:
            return usage
        share = f"{self.app_used}/{self.app_maximum}(appName={self.app_name})"
        return f"{usage}; per-app-api-usage={share}"

    def resource(self) -> dict[str, Any]:
        """The body of /limits."""
        answer = {name: {"Max": size, "Remaining": size} for name, size in _OTHERS.items()}
        answer["DailyApiRequests"] = {"Max": self.maximum, "Remaining": self.remaining}
        answer["DailyBulkApiBatches"] = {"Max": _BULK_BATCHES, "Remaining": self.bulk_batches}
        answer["DailyBulkV2QueryJobs"] = {"Max": _BULK_JOBS, "Remaining": self.bulk_jobs}
        answer["DailyBulkV2QueryFileStorageMB"] = {
            "Max": _BULK_KILOBYTES // 1024,
            "Remaining": max(self.bulk_kilobytes // 1024, 0),
        }
        return dict(sorted(answer.items()))
