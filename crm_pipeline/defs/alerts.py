"""Alerts in Dagster: a sensor that looks, and a job that fails with what a person should know.

A red run is the one thing that every way of telling people can be attached to: one run failure
sensor then speaks of failed syncs and of alerts alike.

Belongs here: when an alert is told, and when it is told again. Does not belong here: what is worth
an alert (sync/alerts.py), and mail or chat, which operators attach (docs/how-to/dagster.md).
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg

from crm_pipeline.defs.names import ALERTS
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.sync.alerts import Alert, read_alerts

TOLD_AGAIN_AFTER = timedelta(days=1)
Told = Mapping[str, tuple[int, str]]
"""By alert: its size and when it was told."""


def build_alerts() -> dg.Definitions:
    """The job and the sensor that launches it."""
    return dg.Definitions(jobs=[_alerts_job()], sensors=[_alert_watch()])


def _alerts_job() -> dg.JobDefinition:
    @dg.op(description="Fails with one sentence per alert, and succeeds when there is none.")
    def tell_alerts(context: dg.OpExecutionContext, crm: CrmResource) -> None:
        found = read_alerts(crm.warehouse(), crm.settings())
        if not found:
            context.log.info("Nothing needs a person.")
            return
        raise dg.Failure(
            description="\n".join(alert.sentence for alert in found),
            metadata={"alerts": alert_table(found)},
            allow_retries=False,
        )

    @dg.job(
        name=ALERTS,
        description=(
            "Says what a person should know: old data, objects that were never synced, records in "
            "quarantine, disappearances that wait for consent. Red when there is something. Reads "
            "the warehouse only and costs no API call."
        ),
        executor_def=dg.in_process_executor,
    )
    def alerts() -> None:
        tell_alerts()

    return alerts


def alert_table(alerts: Iterable[Alert]) -> dg.TableMetadataValue:
    """Alerts for people."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"object": a.object_name, "alert": a.kind.value, "says": a.sentence})
            for a in alerts
        ]
    )


def _alert_watch() -> dg.SensorDefinition:
    @dg.sensor(
        name="alert_watch",
        job_name=ALERTS,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches the job alerts, which turns red, when there is something new to say.",
    )
    def watch(
        context: dg.SensorEvaluationContext, crm: CrmResource
    ) -> dg.RunRequest | dg.SkipReason:
        """A person is told once, and once a day while it lasts.

        | an alert | answer |
        |---|---|
        | was not there at the last look, or counts more now | tell |
        | was told a day ago | tell again |
        | was told since | be silent |
        | is gone | forget it, so that it is told when it comes back |
        | the warehouse does not answer | skip: `crm-pipeline status --fail-on-alert` says so |
        """
        try:
            found = read_alerts(crm.warehouse(), crm.settings())
        except (CrmPipelineError, psycopg.Error) as error:
            return dg.SkipReason(str(error))
        before: Told = json.loads(context.cursor or "{}")
        told, news = told_now(found, before, datetime.now(UTC))
        context.update_cursor(json.dumps(told))
        if not news:
            return dg.SkipReason(
                f"{len(found)} alerts, all of them told." if found else "Nothing needs a person."
            )
        # No run key: a key that was used once would keep the same alert silent for ever.
        return dg.RunRequest()

    return watch


def told_now(
    alerts: Iterable[Alert], before: Told, now: datetime
) -> tuple[Told, tuple[Alert, ...]]:
    """What has been told after this look, and which alerts are news."""
    told: dict[str, tuple[int, str]] = {}
    news = []
    for alert in alerts:
        key = f"{alert.object_name} {alert.kind}"
        size, at = before.get(key, (-1, now.isoformat()))
        if alert.size > size or now - datetime.fromisoformat(at) >= TOLD_AGAIN_AFTER:
            news.append(alert)
            at = now.isoformat()
        told[key] = (alert.size, at)
    return told, tuple(news)
