"""Views that stand on a column, taken down and put up again around a change of its type.

PostgreSQL refuses to retype a column under a view, and dbt's staging views stand on all of them. So
the views are dropped, the column is changed, and they are created again from their own definitions,
with owner, options, grants and comments: all in the transaction of the change. What cannot be put
up again as it was keeps the column as it is, and is named.

Belongs here: remembering, dropping and recreating views. Does not belong here: which columns change
(schema.py).

Sources: PostgreSQL's manual, "pg_depend", "pg_rewrite", "System Information Functions"
(pg_get_viewdef, aclexplode).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

_DEPENDENTS = """
WITH RECURSIVE dependent (oid, depth) AS (
    SELECT r.ev_class, 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = to_regclass(%(table)s) AND r.ev_class <> d.refobjid
      AND d.refobjsubid = (SELECT attnum FROM pg_attribute
                           WHERE attrelid = d.refobjid AND attname = %(column)s)
    UNION
    SELECT r.ev_class, v.depth + 1 FROM dependent v
    JOIN pg_depend d ON d.refobjid = v.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> v.oid
    WHERE d.classid = 'pg_rewrite'::regclass
)
SELECT c.oid, n.nspname AS schema, c.relname AS name, pg_get_userbyid(c.relowner) AS owner,
       pg_get_viewdef(c.oid) AS definition, coalesce(c.reloptions, '{}') AS options,
       obj_description(c.oid, 'pg_class') AS comment,
       (c.relkind = 'v' AND c.relpersistence = 'p' AND NOT c.relhastriggers
        AND (SELECT count(*) FROM pg_rewrite r WHERE r.ev_class = c.oid) = 1
        AND NOT EXISTS (SELECT FROM pg_attrdef WHERE adrelid = c.oid)) AS is_plain
FROM (SELECT oid, max(depth) AS depth FROM dependent GROUP BY oid) found
JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY found.depth, c.oid
"""
_COLUMN_COMMENTS = """
SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
WHERE attrelid = %s AND attnum > 0 AND col_description(attrelid, attnum) IS NOT NULL
ORDER BY attnum
"""
# What a role may do with the whole view (no column) or with one of its columns.
_GRANTS = """
SELECT NULL AS column_name, pg_get_userbyid(a.grantor) AS grantor,
       CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END AS role,
       a.privilege_type AS privilege, a.is_grantable
FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE c.oid = %(view)s
UNION ALL
SELECT t.attname, pg_get_userbyid(a.grantor),
       CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
       a.privilege_type, a.is_grantable
FROM pg_attribute t, aclexplode(t.attacl) a WHERE t.attrelid = %(view)s AND t.attnum > 0
"""


class ViewInTheWay(Exception):
    """A view cannot be taken down or put up again as it was; the change must be rolled back."""

    def __init__(self, view: "View", reason: str) -> None:
        super().__init__(f"the view {view.schema}.{view.name} {reason}")


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege on a whole view or on one of its columns; without a role it is everybody's."""

    column_name: str | None
    grantor: str
    role: str | None
    privilege: str
    is_grantable: bool

    def statement(self, verb: str, view: sql.Identifier) -> sql.Composed:
        """GRANT it TO, or REVOKE it FROM."""
        column = (
            sql.SQL("")
            if self.column_name is None
            else sql.SQL(" ({})").format(sql.Identifier(self.column_name))
        )
        return sql.SQL("{} {}{} ON {} {} {}{}").format(
            sql.SQL(verb),
            sql.SQL(self.privilege),
            column,
            view,
            sql.SQL("TO" if verb == "GRANT" else "FROM"),
            sql.SQL("PUBLIC") if self.role is None else sql.Identifier(self.role),
            sql.SQL(" WITH GRANT OPTION" if verb == "GRANT" and self.is_grantable else ""),
        )


@dataclass(frozen=True, slots=True)
class View:
    """A view as it stands, with everything that dropping it would lose.

    Attributes:
        is_plain: it is no materialised or temporary view, and has no triggers, rules or defaults.
    """

    oid: int
    schema: str
    name: str
    owner: str
    definition: str
    options: list[str]
    comment: str | None
    is_plain: bool

    @property
    def qualified(self) -> sql.Identifier:
        """Its name as SQL."""
        return sql.Identifier(self.schema, self.name)


def change_under_views(
    connection: psycopg.Connection, table: sql.Identifier, column: str, change: Callable[[], None]
) -> None:
    """Change a column although views stand on it; roll back if one of them cannot follow.

    Args:
        connection: in a transaction of the caller's; a refusal undoes only what was done here.
        table: the table, qualified.
        column: the column on which the views stand.
        change: changes it.

    Raises:
        ViewInTheWay: a view cannot be put up again as it was.
        psycopg.Error: the change itself was refused.
    """
    with connection.transaction():
        kept = [_Kept.of(connection, view) for view in _dependents(connection, table, column)]
        for one in reversed(kept):
            one.take_down(connection)
        change()
        for one in kept:
            one.put_up(connection)


def _dependents(connection: psycopg.Connection, table: sql.Identifier, column: str) -> list[View]:
    """Views on the column and views on those, in the order in which they can be created."""
    with connection.cursor(row_factory=class_row(View)) as cursor:
        return cursor.execute(
            _DEPENDENTS, {"table": table.as_string(connection), "column": column}
        ).fetchall()


def _grants(connection: psycopg.Connection, oid: int) -> frozenset[Grant]:
    with connection.cursor(row_factory=class_row(Grant)) as cursor:
        return frozenset(cursor.execute(_GRANTS, {"view": oid}).fetchall())


@dataclass(frozen=True, slots=True)
class _Kept:
    """A view with what is written beside it in the catalogue."""

    view: View
    grants: frozenset[Grant]
    column_comments: list[tuple[str, str]]

    @classmethod
    def of(cls, connection: psycopg.Connection, view: View) -> "_Kept":
        """Remember a view.

        Raises:
            ViewInTheWay: it is more than a definition.
        """
        if not view.is_plain:
            raise ViewInTheWay(
                view, "is materialised or temporary, or has triggers, rules or defaults"
            )
        comments = connection.execute(_COLUMN_COMMENTS, [view.oid]).fetchall()
        return cls(view, _grants(connection, view.oid), [(str(a), str(b)) for a, b in comments])

    def take_down(self, connection: psycopg.Connection) -> None:
        """Drop the view.

        Raises:
            ViewInTheWay: something else stands on it, or it is not ours to drop.
        """
        self._run(connection, sql.SQL("DROP VIEW {}").format(self.view.qualified))

    def put_up(self, connection: psycopg.Connection) -> None:
        """Create the view again.

        Raises:
            ViewInTheWay: its definition, owner or grants do not hold any more.
        """
        for statement in self._statements():
            self._run(connection, statement)
        row = connection.execute(
            "SELECT to_regclass(%s)::oid", [self.view.qualified.as_string(connection)]
        ).fetchone()
        assert row is not None, "a SELECT without FROM gives one row"
        # Default privileges may have given what the view did not have.
        given = _grants(connection, row[0])
        for verb, grants in (("REVOKE", given - self.grants), ("GRANT", self.grants - given)):
            for grant in grants:
                self._run(connection, grant.statement(verb, self.view.qualified))
        if _grants(connection, row[0]) != self.grants:
            raise ViewInTheWay(self.view, "has grants that only their grantors can give again")

    def _statements(self) -> Iterator[sql.Composed]:
        name = self.view.qualified
        options = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value))
            for key, _, value in (option.partition("=") for option in self.view.options)
        )
        yield sql.SQL("CREATE VIEW {} {} AS {}").format(
            name,
            sql.SQL("WITH ({})").format(options) if self.view.options else sql.SQL(""),
            # PostgreSQL's own rendering of a view that it has accepted before.
            sql.SQL(self.view.definition.rstrip(";")),
        )
        yield sql.SQL("ALTER VIEW {} OWNER TO {}").format(name, sql.Identifier(self.view.owner))
        if self.view.comment is not None:
            comment = sql.Literal(self.view.comment)
            yield sql.SQL("COMMENT ON VIEW {} IS {}").format(name, comment)
        for column, text in self.column_comments:
            yield sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                name, sql.Identifier(column), sql.Literal(text)
            )

    def _run(self, connection: psycopg.Connection, statement: sql.Composed) -> None:
        try:
            connection.execute(statement)
        except psycopg.OperationalError:
            raise  # a lock that did not come, a server that went: to be tried again
        except psycopg.Error as error:
            reason = error.diag.message_primary or "cannot be created again"
            raise ViewInTheWay(self.view, f"cannot follow ({reason})") from error
