"""Which staged rows are events: one SQL query, from texts to the contract's types.

Every rule gives the column that breaks it and a sentence; a row is judged by the first that it
breaks. Nothing here can raise: what a cast would refuse is asked before it is cast.

Belongs here: the rules of the contract. Does not belong here: the table's own CHECKs, which hold
for every tool (the migration), and what becomes of a row (loading.py).
"""

from collections.abc import Iterable

from psycopg import sql

from crm_pipeline.events.formats import LONGEST_KEPT, WHOLE_ROW
from crm_pipeline.model.events import (
    COLUMNS,
    CONSENT_KINDS,
    CUSTOM_KIND,
    LONGEST_EMAIL,
    LONGEST_EVENT_ID,
    EventKind,
)

_TEXTS = tuple(c for c in COLUMNS if c != "properties")
_MOST_NESTED = 1_000
# A parser that meets too many open brackets ends the whole statement, not the row: shorter texts
# cannot hold enough of them, and nothing that means well does.
_IS_NESTED = (
    "CASE WHEN length({text}) < 4000 THEN false"
    " ELSE length({text}) - length(translate({text}, '[{{', '')) > " + str(_MOST_NESTED) + " END"
)
_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|z| ?UTC| ?[+-]\d\d(:?\d\d)?)?$"

_DOCUMENTS = """
SELECT row_number, document AS raw, true AS is_there,
       CASE WHEN parsed IS NULL THEN '{whole}'
            WHEN jsonb_typeof(parsed) <> 'object' THEN '{whole}'
            WHEN parsed - {columns} <> '{{}}' THEN
                (SELECT left(min(k), 60) FROM jsonb_object_keys(parsed - {columns}) k)
            {not_texts}
       END AS misfit,
       {texts},
       CASE WHEN jsonb_typeof(parsed) <> 'object'
              OR coalesce(jsonb_typeof(parsed -> 'properties'), 'null') = 'null' THEN '{{}}'::jsonb
            ELSE parsed -> 'properties' END AS properties,
       NULL::text AS given_properties
FROM (
    SELECT row_number, document,
           CASE WHEN {is_nested} THEN NULL
                WHEN pg_input_is_valid(document, 'jsonb') THEN document::jsonb END AS parsed
    FROM {staging} WHERE document ~ '\\S' OFFSET 0
) staged
"""
_ROWS = """
SELECT row_number, NULL::text AS raw, num_nonnulls({columns}) > 0 AS is_there,
       {broken_off} AS misfit,
       {texts},
       CASE WHEN properties IS NULL OR properties = '' THEN '{{}}'::jsonb
            WHEN {is_nested} THEN NULL
            WHEN pg_input_is_valid(properties, 'jsonb') THEN properties::jsonb END AS properties,
       properties AS given_properties
FROM {staging} staged
"""
# OFFSET 0 keeps PostgreSQL from writing an expression out wherever it is used, and so from parsing
# each document thirty times.
_JUDGED = """
SELECT row_number, event_id,
       CASE WHEN fault[1] IS NULL THEN occurred_at::timestamptz END AS occurred_at,
       kind, email,
       CASE WHEN length(crm_id) = 15 THEN events.full_crm_id(crm_id) ELSE crm_id END AS crm_id,
       campaign, channel, source, url, properties,
       fault[1] AS fault_column, fault[2] AS fault, {shown} AS file_row
FROM (
    SELECT *, {rules} AS fault
    FROM (
        SELECT row_number, misfit, event_id, btrim(occurred_at) AS occurred_at, kind,
               nullif(lower(btrim(email)), '') AS email, nullif(btrim(crm_id), '') AS crm_id,
               campaign, channel, source, url, properties, raw, given_properties
        FROM ({rows}) given WHERE is_there OFFSET 0
    ) tidied OFFSET 0
) ruled
"""


def judged_rows(staging: sql.Identifier, *, has_documents: bool) -> sql.Composed:
    """A query for every staged row: its values, and what is wrong with it.

    Columns: `row_number`, those of the contract in their types, `fault_column` and `fault` (null in
    an event), and `file_row`: the row as it was, which costs only where it is asked for.
    """
    pairs = ", ".join(f"'{c}', {'given_properties' if c == 'properties' else c}" for c in COLUMNS)
    shown = "raw" if has_documents else f"jsonb_strip_nulls(jsonb_build_object({pairs}))::text"
    return sql.SQL(_JUDGED).format(
        rules=_rules(has_documents=has_documents),
        rows=_documents(staging) if has_documents else _columns(staging),
        shown=sql.SQL(f"left({shown}, {LONGEST_KEPT})"),
    )


def _documents(staging: sql.Identifier) -> sql.Composed:
    texts = ", ".join(f"nullif(parsed ->> '{c}', '') AS {c}" for c in _TEXTS)
    not_texts = " ".join(
        f"WHEN jsonb_typeof(parsed -> '{c}') IN ('object', 'array', 'boolean') THEN '{c}'"
        for c in _TEXTS
    )
    return sql.SQL(_DOCUMENTS).format(
        whole=sql.SQL(WHOLE_ROW),
        columns=sql.SQL("{}::text[]").format(sql.Literal(list(COLUMNS))),
        not_texts=sql.SQL(not_texts),
        texts=sql.SQL(texts),
        is_nested=sql.SQL(_IS_NESTED.format(text="document")),
        staging=staging,
    )


def _columns(staging: sql.Identifier) -> sql.Composed:
    # A quotation mark that is not closed swallows the rows below it: they would be lost unseen.
    broken_off = " ".join(f"WHEN strpos({c}, E'\\n') > 0 THEN '{c}'" for c in _TEXTS)
    return sql.SQL(_ROWS).format(
        columns=sql.SQL(", ".join(COLUMNS)),
        broken_off=sql.SQL(f"CASE {broken_off} END"),
        texts=sql.SQL(", ".join(f"nullif({c}, '') AS {c}" for c in _TEXTS)),
        is_nested=sql.SQL(_IS_NESTED.format(text="properties")),
        staging=staging,
    )


def _rules(*, has_documents: bool) -> sql.Composed:
    """The first rule that a row breaks, as column and sentence; null of an event."""
    misfit = (
        "CASE misfit WHEN '{whole}' THEN 'is no JSON object on one line' ELSE CASE WHEN misfit ="
        " ANY({columns}) THEN 'is no text' ELSE 'is no column of the contract; put it into"
        " properties' END END"
        if has_documents
        else "'goes over several lines; most often a quotation mark is opened and not closed'"
    )
    told = sql.SQL(misfit).format(whole=sql.SQL(WHOLE_ROW), columns=sql.Literal(list(COLUMNS)))
    is_time = "pg_input_is_valid(occurred_at, 'timestamptz')"
    has_no_points = "coalesce(jsonb_typeof(properties -> 'points'), '') <> 'number'"
    fixed = (
        ("btrim(coalesce(event_id, '')) = ''", "event_id", "is missing"),
        (
            f"length(event_id) > {LONGEST_EVENT_ID}",
            "event_id",
            f"is longer than {LONGEST_EVENT_ID} characters",
        ),
        ("coalesce(occurred_at, '') = ''", "occurred_at", "is missing"),
        (
            f"occurred_at !~ '{_TIME}' OR NOT {is_time}",
            "occurred_at",
            "is no time; write it as 2026-03-02T12:00:00Z",
        ),
        (
            f"CASE WHEN {is_time} THEN occurred_at::timestamptz > now() + interval '1 day' END",
            "occurred_at",
            "lies in the future",
        ),
        (
            f"CASE WHEN {is_time} THEN occurred_at::timestamptz < '1990-01-01Z' END",
            "occurred_at",
            "lies before 1990",
        ),
        ("kind IS NULL", "kind", "is missing"),
        (
            f"NOT (kind = ANY(ARRAY[{_quoted(EventKind)}]) OR kind ~ '{CUSTOM_KIND}')",
            "kind",
            "is no kind of event; own kinds are named custom_ and a-z, 0-9 or _",
        ),
        (
            f"email !~ '^[^[:space:]@]+@[^[:space:]@]+$' OR length(email) > {LONGEST_EMAIL}",
            "email",
            "is no e-mail address",
        ),
        (
            f"email IS NULL AND kind = ANY(ARRAY[{_quoted(CONSENT_KINDS)}])",
            "email",
            "is missing; consent belongs to an address, so nobody could be left alone by this",
        ),
        (
            "crm_id !~ '^[a-zA-Z0-9]{15}([a-zA-Z0-9]{3})?$'",
            "crm_id",
            "is no record id of 15 or 18 characters",
        ),
        (
            "properties IS NULL OR jsonb_typeof(properties) <> 'object'",
            "properties",
            "is no JSON object",
        ),
        (
            f"kind = '{EventKind.SCORE_ADJUSTED}' AND {has_no_points}",
            "properties",
            "has no number named points, which a score_adjusted needs",
        ),
    )
    cases = " ".join(
        f"WHEN {condition} THEN ARRAY['{column}', '{sentence}']"
        for condition, column, sentence in fixed
    )
    return sql.SQL("CASE WHEN misfit IS NOT NULL THEN ARRAY[misfit, {told}] {cases} END").format(
        told=told, cases=sql.SQL(cases)
    )


def _quoted(kinds: Iterable[EventKind]) -> str:
    return ", ".join(f"'{kind}'" for kind in kinds)
