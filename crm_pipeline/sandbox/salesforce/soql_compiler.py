"""A parsed query against the org's definitions: SQLite SQL with bound values.

Belongs here: names resolved, parents joined, clauses put together. Does not belong here: one
condition's meaning (soql_filters.py), running it (reading.py).
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import (
    COMPOUND_TYPES,
    FieldDefinition,
    ObjectDefinition,
)
from crm_pipeline.sandbox.salesforce.soql import parse
from crm_pipeline.sandbox.salesforce.soql_filters import Operand, comparison, membership
from crm_pipeline.sandbox.salesforce.soql_tokens import malformed, pointed
from crm_pipeline.sandbox.salesforce.soql_tree import (
    Aggregate,
    Comparison,
    Condition,
    FieldsOf,
    Junction,
    Membership,
    Negation,
    Path,
    Query,
)
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_DEPTH = 5  # levels of parents a path may climb
_UNBOUNDED_LIMIT = 200  # FIELDS(ALL) wants a LIMIT no larger than this
_OFFSET_LIMIT = 2_000


@dataclass(frozen=True, slots=True)
class Column:
    """One value per row: where it goes in the answer and the SQL that yields it."""

    names: tuple[str, ...]
    field: FieldDefinition
    sql: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query ready to run. `parents` maps a relationship path to the SQL of its Id."""

    definition: ObjectDefinition
    columns: tuple[Column, ...]
    parents: dict[tuple[str, ...], str]
    source: str
    clauses: str
    window: str
    parameters: tuple[object, ...]
    aggregate: bool
    count_only: bool

    def sql(self, what: str) -> str:
        """A SELECT of anything over the query's rows, in its order and limits."""
        return f"SELECT {what} FROM {self.source}{self.clauses}{self.window}"


@dataclass(slots=True)
class _Parent:
    """A joined parent object: its SQL aliases, one per object a lookup may point to."""

    targets: list[tuple[ObjectDefinition, str]]
    id_sql: str


@dataclass(slots=True)
class _Joins:
    source: str
    parents: dict[tuple[str, ...], _Parent] = field(default_factory=dict)


def compile_soql(org: "SandboxOrg", soql: str, *, include_deleted: bool, as_user: bool) -> Compiled:
    """Parse and compile; INVALID_FIELD, INVALID_TYPE or MALFORMED_QUERY where it is wrong.

    An administrator (`as_user=False`) sees all fields, objects and records.
    """
    query = parse(soql)
    return _Compiler(org, query, include_deleted=include_deleted, as_user=as_user).compiled()


class _Compiler:
    def __init__(
        self,
        org: "SandboxOrg",
        query: Query,
        *,
        include_deleted: bool,
        as_user: bool,
        depth: int = 0,
    ) -> None:
        self._org = org
        self._query = query
        self._deleted = include_deleted or query.all_rows
        self._base = f"t{depth}"
        self._depth = depth
        self._as_user = as_user
        self._known = org.catalogue.visible if as_user else org.catalogue.object
        try:
            self._definition = self._known(query.object_name)
        except OrgError as unknown:
            raise OrgError(
                "INVALID_TYPE", pointed(query.text, query.object_position, unknown.message)
            ) from None
        if not self._definition.queryable:
            raise OrgError(
                "INVALID_TYPE_FOR_OPERATION",
                f"entity type {query.object_name} does not support query",
            )
        self._joins = _Joins(f"{quoted(self._definition.name)} AS {self._base}")
        self._parameters: list[object] = []
        self._today = org.clock.now().date()

    def _bind(self, value: object) -> str:
        self._parameters.append(value)
        return "?"

    def compiled(self) -> Compiled:
        query = self._query
        aggregates = [one for one in query.selected if isinstance(one, Aggregate)]
        aggregate = bool(aggregates or query.group_by)
        count_only = aggregate and len(query.selected) == 1 and not query.group_by
        count_only = count_only and bool(aggregates) and aggregates[0].path is None
        columns = self._columns()
        wheres = []
        if self._definition.soft_delete and not self._deleted:
            wheres.append(f"{self._base}.IsDeleted = 'false'")
        if query.where is not None:
            wheres.append(self._condition(query.where))
        sharing = self._org.sharing
        if self._as_user and (shown := sharing.filter(self._definition, f"{self._base}.Id")):
            wheres.append(shown[0])
            self._parameters.extend(shown[1])
        clauses = f" WHERE {' AND '.join(wheres)}" if wheres else ""
        if query.group_by:
            terms = ", ".join(self._operand(one).sortable_sql for one in query.group_by)
            clauses += f" GROUP BY {terms}"
        if query.order_by:
            # By itself, SQLite walks the table by id rather than sort the few rows of a stamp.
            has_few = '."SystemModstamp" >' in clauses and '."Id" >' not in clauses
            clauses += f" ORDER BY {'+' if has_few else ''}{', '.join(self._orderings())}"
        elif self._org.row_order_seed is not None and not aggregate:
            # A prime step through a prime circle: every row once, in no order that means anything.
            seed = int(self._org.row_order_seed)
            clauses += f" ORDER BY ({self._base}.rowid * 2654435761 + {seed}) % 4294967291"
        return Compiled(
            definition=self._definition,
            columns=columns,
            parents={names: one.id_sql for names, one in self._joins.parents.items()},
            source=self._joins.source,
            clauses=clauses,
            window=self._window(),
            parameters=tuple(self._parameters),
            aggregate=aggregate,
            count_only=count_only,
        )

    def _window(self) -> str:
        query = self._query
        if query.offset is not None and query.offset > _OFFSET_LIMIT:
            raise OrgError(
                "NUMBER_OUTSIDE_VALID_RANGE",
                f"SOQL offset value cannot be larger than {_OFFSET_LIMIT}",
            )
        if query.limit is None and query.offset is None:
            return ""
        limit = -1 if query.limit is None else query.limit
        return f" LIMIT {limit} OFFSET {query.offset or 0}"

    def _columns(self) -> tuple[Column, ...]:
        columns: list[Column] = []
        seen: set[str] = set()
        unnamed = 0
        for one in self._query.selected:
            match one:
                case FieldsOf():
                    found = self._expanded(one)
                case Aggregate():
                    found = [self._aggregate(one, unnamed)]
                    unnamed += one.alias is None
                case Path():
                    found = [self._column(one)]
            for column in found:
                key = ".".join(column.names).lower()
                if key in seen:
                    raise OrgError(
                        "MALFORMED_QUERY", f"duplicate field selected: {'.'.join(column.names)}"
                    )
                seen.add(key)
                columns.append(column)
        return tuple(columns)

    def _expanded(self, macro: FieldsOf) -> list[Column]:
        limit = self._query.limit
        if macro.kind != "STANDARD" and (limit is None or limit > _UNBOUNDED_LIMIT):
            raise malformed(
                self._query.text,
                macro.position,
                f"The SOQL FIELDS function must have a LIMIT of at most {_UNBOUNDED_LIMIT}",
            )
        wanted = {"ALL": (True, False), "STANDARD": (False,), "CUSTOM": (True,)}[macro.kind]
        return [
            self._column(Path((one.name,), macro.position))
            for one in self._definition.fields
            if one.custom in wanted
        ]

    def _aggregate(self, one: Aggregate, unnamed: int) -> Column:
        name = one.alias or f"expr{unnamed}"
        number = FieldDefinition(name, name, "int")
        if one.path is None:
            return Column((name,), number, "count(*)")
        operand = self._operand(one.path)
        match one.function:
            case "COUNT":
                return Column((name,), number, f"count({operand.sql})")
            case "COUNT_DISTINCT":
                return Column((name,), number, f"count(DISTINCT {operand.sql})")
            case "MIN" | "MAX":
                sql = f"{one.function.lower()}({operand.sortable_sql})"
                return Column((name,), replace(operand.field, name=name), sql)
        sql = f"{one.function.lower()}({operand.sortable_sql})"
        return Column((name,), FieldDefinition(name, name, "double"), sql)

    def _column(self, path: Path) -> Column:
        names, definition, sql = self._resolve(path)
        return Column(names, definition, sql)

    def _operand(self, path: Path) -> Operand:
        _, definition, sql = self._resolve(path)
        if definition.type in COMPOUND_TYPES:
            raise OrgError(
                "INVALID_FIELD", f"field '{definition.name}' can not be filtered in a query call"
            )
        return Operand(definition, sql)

    def _resolve(self, path: Path) -> tuple[tuple[str, ...], FieldDefinition, str]:
        names = path.names
        prefixes = {self._definition.name.lower(), (self._query.alias or "").lower()}
        if len(names) > 1 and names[0].lower() in prefixes:
            names = names[1:]
        *relationships, leaf = names
        if not relationships:
            found = self._definition.field(leaf)
            if found is None:
                raise self._unknown(path, leaf, self._definition.name)
            return (found.name,), found, self._field_sql(self._definition, found, self._base)
        if len(relationships) > _DEPTH:
            raise malformed(self._query.text, path.position, "too many relationship levels")
        spelled, parent = self._parent(path, tuple(relationships))
        return self._of_parent(path, spelled, parent, leaf)

    def _of_parent(
        self, path: Path, spelled: tuple[str, ...], parent: _Parent, leaf: str
    ) -> tuple[tuple[str, ...], FieldDefinition, str]:
        options = [
            (found, self._field_sql(definition, found, alias))
            for definition, alias in parent.targets
            if (found := definition.field(leaf)) is not None
        ]
        if not options:
            raise self._unknown(path, leaf, parent.targets[0][0].name)
        found = options[0][0]
        sqls = [sql for _, sql in options]
        sql = sqls[0] if len(sqls) == 1 else f"coalesce({', '.join(sqls)})"
        return (*spelled, found.name), found, sql

    def _parent(self, path: Path, names: tuple[str, ...]) -> tuple[tuple[str, ...], _Parent]:
        owners = [(self._definition, self._base)]
        spelled: tuple[str, ...] = ()
        if len(names) > 1:
            spelled, above = self._parent(path, names[:-1])
            owners = above.targets
        lookup, sql = self._lookup(path, owners, names[-1])
        spelled = (*spelled, lookup.relationship_name or names[-1])
        known = self._joins.parents.get(spelled)
        if known is None:
            known = self._joins.parents[spelled] = self._join(lookup, sql)
        return spelled, known

    def _lookup(
        self, path: Path, owners: list[tuple[ObjectDefinition, str]], name: str
    ) -> tuple[FieldDefinition, str]:
        for definition, alias in owners:
            for one in definition.fields:
                if (one.relationship_name or "").lower() == name.lower():
                    return one, f"{alias}.{quoted(one.name)}"
        raise OrgError(
            "INVALID_FIELD",
            pointed(
                self._query.text,
                path.position,
                f"Didn't understand relationship '{name}' in field path. If you are attempting to "
                "use a custom relationship, be sure to append the '__r' after the custom "
                "relationship name. Please reference your WSDL or the describe call for the "
                "appropriate names.",
            ),
        )

    def _join(self, lookup: FieldDefinition, sql: str) -> _Parent:
        targets: list[tuple[ObjectDefinition, str]] = []
        for target in lookup.reference_to:
            if not self._org.catalogue.has(target):
                continue
            definition = self._known(target)
            alias = f"{self._base}p{len(self._joins.parents)}_{len(targets)}"
            self._joins.source += (
                f" LEFT JOIN {quoted(definition.name)} AS {alias} ON {alias}.Id = {sql}"
            )
            targets.append((definition, alias))
        ids = [f"{alias}.Id" for _, alias in targets]
        return _Parent(targets, ids[0] if len(ids) == 1 else f"coalesce({', '.join(ids)})")

    def _field_sql(self, definition: ObjectDefinition, found: FieldDefinition, alias: str) -> str:
        if found.masked:
            sql = f"{alias}.{quoted(found.name)}"
            stars = f"printf('%.*c', length({sql}) - 4, 'X') || substr({sql}, -4)"
            return f"iif(length({sql}) > 4, {stars}, substr('XXXX', 1, length({sql})))"
        if found.stored:
            return f"{alias}.{quoted(found.name)}"
        if found.name_field and definition.field("LastName") is not None:
            # A person's name is joined by SQLite itself: a million of them must stay cheap.
            return (
                f"nullif(trim(coalesce({alias}.FirstName || ' ', '') || "
                f"coalesce({alias}.LastName, '')), '')"
            )
        kind = "org_compound" if found.type in COMPOUND_TYPES else "org_formula"
        return f"{kind}('{definition.name}', '{found.name}', {alias}.Id)"

    def _unknown(self, path: Path, name: str, entity: str) -> OrgError:
        return OrgError(
            "INVALID_FIELD",
            pointed(
                self._query.text,
                path.position,
                f"No such column '{name}' on entity '{entity}'. If you are attempting to use a "
                "custom field, be sure to append the '__c' after the custom field name. Please "
                "reference your WSDL or the describe call for the appropriate names.",
            ),
        )

    def _orderings(self) -> list[str]:
        terms = []
        for one in self._query.order_by:
            operand = self._operand(one.path)
            if not operand.field.sortable:
                raise OrgError(
                    "MALFORMED_QUERY",
                    f"field '{operand.field.name}' can not be sorted in a query call",
                )
            direction = "DESC" if one.descending else "ASC"
            nulls = "LAST" if one.nulls_last else "FIRST"
            terms.append(f"{operand.sortable_sql} {direction} NULLS {nulls}")
        return terms

    def _condition(self, condition: Condition) -> str:
        match condition:
            case Junction(word, parts):
                return f"({f' {word} '.join(self._condition(one) for one in parts)})"
            case Negation(part):
                return f"NOT coalesce({self._condition(part)}, 0)"
            case Comparison(path, operator, value):
                operand = self._operand(path)
                return comparison(operand, operator, value, self._bind, self._today)
            case Membership(path, operator, Query() as inner):
                return self._semi_join(path, operator, inner)
            case Membership(path, operator, values) if isinstance(values, tuple):
                operand = self._operand(path)
                return membership(operand, operator, values, self._bind, self._today)
        raise AssertionError(condition)

    def _semi_join(self, path: Path, operator: str, inner: Query) -> str:
        operand = self._operand(path)
        sub = _Compiler(
            self._org,
            inner,
            include_deleted=self._deleted,
            as_user=self._as_user,
            depth=self._depth + 1,
        ).compiled()
        if len(sub.columns) != 1 or sub.columns[0].field.type not in {"id", "reference"}:
            raise OrgError(
                "MALFORMED_QUERY", "semi join sub-selects must select exactly one Id field"
            )
        self._parameters.extend(sub.parameters)
        found = f"{operand.sql} IN ({sub.sql(sub.columns[0].sql)})"
        return f"NOT coalesce({found}, 0)" if operator == "NOT IN" else found
