"""The choices for one CRM object: which records, which fields, into which table.

Holds the object and field-mapping sections of the settings file. Belongs here: rules that one
object's section can check by itself. Does not belong here: rules between objects (settings.py) and
anything that needs the CRM's describe (mapping.py).
"""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from crm_pipeline.config.faults import NAME_RULE, Accepts, Fault, OnOff, Section, SettingFaults
from crm_pipeline.config.filters import parse_filter
from crm_pipeline.config.names import (
    column_problem,
    default_column,
    identifier_problem,
    is_field_name,
    show,
)
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.filters import RecordFilter
from crm_pipeline.model.objects import Direction, Transport

ID_FIELD = "Id"
"""The key; mapped whether or not the operator lists it."""


class FieldMapping(Section):
    """One line of a field mapping: a CRM field, the column it fills, and which way it flows."""

    field: Annotated[str, Field(strict=True), Accepts("a field such as `Email` or `Account.Name`")]
    """API name, or a path over relationships."""
    column: Annotated[str, Field(strict=True), Accepts(f"a column name: {NAME_RULE}")]
    """Column of the object's table; by default the field's name in lower case, dots as `_`."""
    direction: Annotated[Direction, Accepts("`down`, `up` or `both`")] = Direction.DOWN
    """From the CRM (down), to it (up), or both."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, line: object) -> object:
        """`Email`, `Email: column` and the long form mean the same."""
        if isinstance(line, cls):
            return line
        spelt: dict[object, object]
        match line:
            case str():
                spelt = {"field": line}
            case {"field": str() as field, **rest}:
                spelt = {"field": field, **rest}
            case dict() if len(line) == 1 and all(isinstance(v, str) for v in line.values()):
                ((field, column),) = line.items()
                spelt = {"field": field, "column": column}
            case _:
                raise SettingFaults(
                    Fault(
                        (),
                        f"{show(line)} is no field mapping; write `Email`, `Email: column` or "
                        "`{field: Email, column: email, direction: down}`, with quotes around "
                        "names that YAML reads as something else.",
                    )
                )
        return {"column": _column_of(str(spelt["field"])), **spelt}

    @model_validator(mode="after")
    def _names_are_usable(self) -> "FieldMapping":
        problem = column_problem(self.column)
        if problem and self.column == default_column(self.field):
            raise SettingFaults(
                Fault(
                    (),
                    f"the column of field {show(self.field)} would be {show(self.column)}, which "
                    f"{problem}; name another with "
                    f"`{{field: {self.field}, column: shorter_name}}`.",
                )
            )
        if problem:
            raise SettingFaults(
                Fault(("column",), f"column {show(self.column)} {problem}; {NAME_RULE}.")
            )
        only_down = "." in self.field or self.field.casefold() == ID_FIELD.casefold()
        if only_down and self.direction is not Direction.DOWN:
            raise SettingFaults(
                Fault(
                    ("direction",),
                    f"{show(self.field)} cannot be written through this object; write "
                    "`direction: down` or leave it out.",
                )
            )
        return self


def _column_of(field: str) -> str:
    """The default column, once the field itself is known to be spelt right."""
    if not is_field_name(field):
        raise SettingFaults(
            Fault(
                (),
                f"{show(field)} is no field name; write an API name such as `Lead_Score__c`, or a "
                "path such as `Account.Name`.",
            )
        )
    return default_column(field)


class ObjectSettings(Section):
    """The choices for one CRM object: whether, which records, which fields, into which table."""

    enabled: OnOff = True
    """Whether the object takes part in syncs; false keeps its table as it is."""
    table: Annotated[str | None, Field(strict=True), Accepts(f"a table name: {NAME_RULE}")] = None
    """Table in the CRM's schema; by default the object's name in lower case."""
    filter: Annotated[
        str | None,
        Field(strict=True),
        Accepts("a condition in quotes, such as \"Status = 'Open'\""),
    ] = None
    """Which records take part; none means all."""
    transport: Annotated[Transport, Accepts("`auto`, `rest` or `bulk`")] = Transport.AUTO
    """How records travel; auto chooses by what it costs."""
    fields: Annotated[
        tuple[FieldMapping, ...], Field(min_length=1), Accepts("a list of at least one field")
    ]
    """Which fields fill which columns; the id is always among them."""

    @property
    def record_filter(self) -> RecordFilter | None:
        """The filter as a tree."""
        return None if self.filter is None else parse_filter(self.filter)

    @property
    def columns(self) -> tuple[FieldMapping, ...]:
        """The mapping with the id first, also where the operator did not list it."""
        ids = [m for m in self.fields if m.field.casefold() == ID_FIELD.casefold()]
        others = tuple(m for m in self.fields if m not in ids)
        return (ids[0] if ids else FieldMapping(field=ID_FIELD, column="id"), *others)

    def table_name(self, object_name: str) -> str:
        """The table that the object fills."""
        return self.table or object_name.lower()

    @field_validator("filter")
    @classmethod
    def _filter_parses(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_filter(text)
            except ConfigurationError as error:
                raise SettingFaults(Fault((), str(error))) from error
        return text

    @field_validator("table")
    @classmethod
    def _table_is_usable(cls, table: str | None) -> str | None:
        problem = table and identifier_problem(table)
        if problem:
            raise SettingFaults(Fault((), f"table {show(table)} {problem}; {NAME_RULE}."))
        return table

    @model_validator(mode="after")
    def _each_field_and_column_once(self) -> "ObjectSettings":
        faults: list[Fault] = []
        by_field: dict[str, FieldMapping] = {}
        by_column = {self.columns[0].column: self.columns[0]}
        for index, mapping in enumerate(self.fields):
            folded = mapping.field.casefold()
            other = by_column.setdefault(mapping.column, mapping)
            if folded in by_field:
                faults.append(
                    Fault(
                        ("fields", index),
                        f"field {show(mapping.field)} is listed twice; remove one of the lines.",
                    )
                )
            elif other.field.casefold() != folded:
                faults.append(
                    Fault(
                        ("fields", index),
                        f"column {show(mapping.column)} is filled by {show(other.field)} already; "
                        f"name another with `{mapping.field}: other_name`.",
                    )
                )
            by_field[folded] = mapping
        if faults:
            raise SettingFaults(*faults)
        return self
