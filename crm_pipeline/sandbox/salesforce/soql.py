"""The SOQL parser: recursive descent over tokens, one method per rule.

Belongs here: the grammar clients really use. Does not belong here: whether a field exists
(soql_compiler.py). Left out: child subqueries, TYPEOF, HAVING, geolocation.
"""

import re

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.soql_tokens import Token, malformed, tokens, unquoted
from crm_pipeline.sandbox.salesforce.soql_tree import (
    Aggregate,
    Comparison,
    Condition,
    FieldsOf,
    Junction,
    Membership,
    Negation,
    Ordering,
    Path,
    Query,
    Selected,
    Value,
)

MAXIMUM_LENGTH = 100_000  # characters of a query
_AGGREGATES = frozenset({"COUNT", "COUNT_DISTINCT", "MIN", "MAX", "SUM", "AVG"})
_CLAUSES = frozenset(
    {"WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET", "ALL", "FOR", "WITH", "USING", "HAVING"}
)
_SPAN = re.compile(
    r"TODAY|YESTERDAY|TOMORROW|(?:LAST|THIS|NEXT)_(?:WEEK|MONTH|QUARTER|YEAR)"
    r"|LAST_90_DAYS|NEXT_90_DAYS|(?:LAST|NEXT)_N_(?:DAYS|WEEKS|MONTHS|YEARS)|N_DAYS_AGO"
)


def parse(soql: str) -> Query:
    """Read a query; MALFORMED_QUERY if it is none."""
    if len(soql) > MAXIMUM_LENGTH:
        raise malformed(soql[:100], 0, f"SOQL statements can't be longer than {MAXIMUM_LENGTH}")
    parser = _Parser(soql)
    query = parser.query()
    parser.end()
    return query


class _Parser:
    def __init__(self, soql: str) -> None:
        self._soql = soql
        self._tokens = tokens(soql)
        self._place = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _take(self) -> Token:
        token = self._next
        self._place += 1
        return token

    def _refusal(self, token: Token | None = None) -> OrgError:
        token = token or self._next
        spoken = token.text if token.kind == "end" else f"'{token.text}'"
        return malformed(self._soql, token.position, f"unexpected token: {spoken}")

    def _at(self, *words: str) -> bool:
        return self._next.kind in {"word", "symbol"} and self._next.upper in words

    def _accept(self, *words: str) -> bool:
        """Take these words if they are all next, in this order."""
        ahead = self._tokens[self._place : self._place + len(words)]
        if [one.upper for one in ahead if one.kind in {"word", "symbol"}] != list(words):
            return False
        self._place += len(words)
        return True

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._refusal()

    def _word(self) -> Token:
        if self._next.kind != "word":
            raise self._refusal()
        return self._take()

    def end(self) -> None:
        if self._next.kind != "end":
            raise self._refusal()

    def query(self) -> Query:
        self._expect("SELECT")
        selected = [self._selected()]
        while self._accept(","):
            selected.append(self._selected())
        self._expect("FROM")
        source = self._word()
        alias = None
        self._accept("AS")
        if self._next.kind == "word" and self._next.upper not in _CLAUSES:
            alias = self._take().text
        if self._accept("USING"):
            self._expect("SCOPE")
            self._word()
        where = self._condition() if self._accept("WHERE") else None
        if self._accept("WITH"):
            self._word()  # SECURITY_ENFORCED and USER_MODE change nothing for one user
        group_by = self._paths() if self._accept("GROUP", "BY") else ()
        order_by = self._orderings() if self._accept("ORDER", "BY") else ()
        limit = self._count() if self._accept("LIMIT") else None
        offset = self._count() if self._accept("OFFSET") else None
        all_rows = self._accept("ALL", "ROWS")
        if self._accept("FOR"):
            self._word()
        return Query(
            text=self._soql,
            selected=tuple(selected),
            object_name=source.text,
            object_position=source.position,
            alias=alias,
            where=where,
            group_by=group_by,
            order_by=order_by,
            limit=limit,
            offset=offset,
            all_rows=all_rows,
        )

    def _selected(self) -> Selected:
        token = self._next
        if token.text == "(":
            raise malformed(
                self._soql, token.position, "child relationship subqueries are not supported here"
            )
        name = self._word()
        if not self._accept("("):
            return Path(tuple(name.text.split(".")), name.position)
        if name.upper == "FIELDS":
            kind = self._word()
            self._expect(")")
            if kind.upper not in {"ALL", "STANDARD", "CUSTOM"}:
                raise self._refusal(kind)
            return FieldsOf(kind.upper, name.position)
        if name.upper not in _AGGREGATES:
            raise self._refusal(name)
        path = None if self._at(")") else self._path()
        self._expect(")")
        if path is None and name.upper != "COUNT":
            raise self._refusal(name)
        aliased = self._next.kind == "word" and not self._at("FROM")
        alias = self._take().text if aliased else None
        return Aggregate(name.upper, path, alias, name.position)

    def _path(self) -> Path:
        token = self._word()
        return Path(tuple(token.text.split(".")), token.position)

    def _paths(self) -> tuple[Path, ...]:
        found = [self._path()]
        while self._accept(","):
            found.append(self._path())
        return tuple(found)

    def _orderings(self) -> tuple[Ordering, ...]:
        found = [self._ordering()]
        while self._accept(","):
            found.append(self._ordering())
        return tuple(found)

    def _ordering(self) -> Ordering:
        path = self._path()
        descending = self._accept("DESC")
        if not descending:
            self._accept("ASC")
        nulls_last = False
        if self._accept("NULLS"):
            nulls_last = self._accept("LAST")
            if not nulls_last:
                self._expect("FIRST")
        return Ordering(path, descending, nulls_last)

    def _count(self) -> int:
        token = self._take()
        if token.kind != "number" or not token.text.isdigit():
            raise self._refusal(token)
        return int(token.text)

    def _condition(self) -> Condition:
        first = self._negatable()
        if not self._at("AND", "OR"):
            return first
        word = self._next.upper
        parts = [first]
        while self._accept(word):
            parts.append(self._negatable())
        if self._at("AND", "OR"):
            # SOQL has no precedence between the two: it wants parentheses.
            raise self._refusal()
        return Junction("AND" if word == "AND" else "OR", tuple(parts))

    def _negatable(self) -> Condition:
        if self._accept("NOT"):
            return Negation(self._negatable())
        if self._accept("("):
            inner = self._condition()
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        path = self._path()
        operator = self._take()
        match operator.upper:
            case "=" | "<" | "<=" | ">" | ">=" | "!=" | "<>" | "LIKE":
                word = "!=" if operator.text == "<>" else operator.upper
                return Comparison(path, word, self._value())
            case "IN" | "INCLUDES" | "EXCLUDES":
                return Membership(path, operator.upper, self._list())
            case "NOT":
                self._expect("IN")
                return Membership(path, "NOT IN", self._list())
            case _:
                raise self._refusal(operator)

    def _list(self) -> tuple[Value, ...] | Query:
        self._expect("(")
        if self._at("SELECT"):
            inner = self.query()
            self._expect(")")
            return inner
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _value(self) -> Value:
        token = self._take()
        match token.kind:
            case "text":
                value, pattern = unquoted(self._soql, token)
                return Value("text", value, pattern)
            case "number" | "date" | "datetime" | "time" as kind:
                return Value(kind, token.text)
            case "word":
                return self._named(token)
            case _:
                raise self._refusal(token)

    def _named(self, token: Token) -> Value:
        word = token.upper
        if word in {"TRUE", "FALSE"}:
            return Value("boolean", word.lower())
        if word == "NULL":
            return Value("null", "")
        if not _SPAN.fullmatch(word):
            raise self._refusal(token)
        if "_N_" not in word and word != "N_DAYS_AGO":
            return Value("span", word)
        self._expect(":")
        return Value("span", f"{word}:{self._count()}")
