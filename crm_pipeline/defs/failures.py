"""Verdicts of our error tree in Dagster's words.

| error | step fails with | run |
|---|---|---|
| TransientError, or the database went away | the sentence | retried from there, twice at most |
| UsageError, PermanentError, Interrupted | the sentence | not retried: it would not help |
| anything else | its kind and a stack trace without values: a bug | not retried |

The daemon that retries runs reads tags, not verdicts: every job says "no retry after a failed step"
and a transient verdict overrules it for its run. Runs whose worker died are always retried.

Belongs here: that translation. Does not belong here: wording of errors (where they are raised).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psycopg

from crm_pipeline.defs.resources import RunContext
from crm_pipeline.errors import CrmPipelineError, TransientError
from crm_pipeline.warehouse.wording import told, trace_of

RETRY_AFTER_STEP_FAILURE = "dagster/retry_on_asset_or_op_failure"
RETRY_TAGS = {
    "dagster/max_retries": "2",
    "dagster/retry_strategy": "FROM_FAILURE",
    RETRY_AFTER_STEP_FAILURE: "false",
}
"""Tags of every job whose runs may be retried."""


@contextmanager
def told_as_failure(context: RunContext) -> Iterator[None]:
    """End the step with the error's own sentence, and tell the daemon whether to try again."""
    run = context.run
    try:
        yield
    except (TransientError, psycopg.OperationalError) as error:
        context.log.debug("What was caught:\n%s", trace_of(error))
        context.instance.add_run_tags(run.run_id, {RETRY_AFTER_STEP_FAILURE: "true"})
        raise _failure(error, is_retried=True) from None
    except CrmPipelineError as error:
        context.log.debug("What was caught:\n%s", trace_of(error))
        raise _failure(error, is_retried=False) from None
    except Exception as error:
        # Not let through: Dagster would store the text of an error that may quote a record.
        raise _failure(error, is_retried=False, where=trace_of(error)) from None


def _failure(error: Exception, *, is_retried: bool, where: str | None = None) -> dg.Failure:
    facts: dict[str, str | bool] = {"verdict": type(error).__name__, "is_retried": is_retried}
    if where is not None:
        facts["stack_trace"] = where
    return dg.Failure(description=told(error), metadata=facts, allow_retries=is_retried)


def broken_fields_failure(object_name: str, fields: tuple[str, ...]) -> dg.Failure:
    """Everything else of the object is committed, and still the run must be red."""
    return dg.Failure(
        description=(
            f"{object_name}: the CRM does not show us {', '.join(fields)}. Every other field was "
            "synced; these columns keep their old values. Let the integration user read the "
            "fields, or take them out of the settings file."
        ),
        metadata={"verdict": "FieldUnavailable", "broken_fields": list(fields)},
        allow_retries=False,
    )
