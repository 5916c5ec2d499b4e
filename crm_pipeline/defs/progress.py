"""Live progress of a sync on its asset's page.

Belongs here: how often and in which form people watch a sync. Does not belong here: the outcome of
a finished one (metadata.py).
"""

import threading
import time

import dagster as dg

from crm_pipeline.model.sync import Progress

SECONDS_BETWEEN = 2.0
PERCENT_BETWEEN = 5.0


class ProgressObserver:
    """Writes a log line per landed page, and now and then a point for the asset's plots.

    A small read is over before the first point is due, and leaves none: an empty differential
    writes no event more than it must. Called from several threads.
    """

    def __init__(self, context: dg.AssetExecutionContext, asset_key: dg.AssetKey) -> None:
        self._context = context
        self._asset_key = asset_key
        self._lock = threading.Lock()
        self._observed_at = time.monotonic()
        self._observed_percent = 0.0

    def __call__(self, progress: Progress) -> None:
        """One page more has landed."""
        with self._lock:
            self._context.log.info(_sentence(progress))
            if self._is_due(progress):
                self._observe(progress)

    def _is_due(self, progress: Progress) -> bool:
        waited = time.monotonic() - self._observed_at
        moved = (progress.percent or 0.0) - self._observed_percent
        is_worth_a_point = waited >= SECONDS_BETWEEN or moved >= PERCENT_BETWEEN
        return is_worth_a_point and progress.seconds >= SECONDS_BETWEEN

    def _observe(self, progress: Progress) -> None:
        self._observed_at = time.monotonic()
        self._observed_percent = progress.percent or 0.0
        metadata: dict[str, dg.IntMetadataValue | dg.FloatMetadataValue] = {
            "records_read": dg.MetadataValue.int(progress.records_read)
        }
        if progress.percent is not None:
            metadata["progress_pct"] = dg.MetadataValue.float(round(progress.percent, 1))
        if progress.eta_seconds is not None:
            metadata["eta_seconds"] = dg.MetadataValue.float(round(progress.eta_seconds, 1))
        self._context.log_event(
            dg.AssetObservation(self._asset_key, description=_sentence(progress), metadata=metadata)
        )


def _sentence(progress: Progress) -> str:
    whole = "" if progress.expected is None else f" of {progress.expected:,}"
    left = progress.eta_seconds
    rest = f", about {left:.0f} s left" if left else ""
    return f"{progress.object_name}: {progress.records_read:,}{whole} records read{rest}"
