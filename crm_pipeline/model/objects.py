"""What a CRM object is, and what of it the operator chose.

Belongs here: facts that both the CRM side and the warehouse side must agree on. Does not belong
here: a CRM's own type names (crm/<vendor>/fields.py) and PostgreSQL's (warehouse/schema.py).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from crm_pipeline.model.filters import RecordFilter


class ValueType(StrEnum):
    """How a value is stored. A CRM's many field types come down to these."""

    TEXT = "text"
    IDENTIFIER = "identifier"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    TIME = "time"


class Direction(StrEnum):
    """Which way a mapped field flows: from the CRM (down), to it (up), or both."""

    DOWN = "down"
    UP = "up"
    BOTH = "both"


class Transport(StrEnum):
    """How records travel: one page of JSON per call, or a job whose result is streamed as CSV."""

    AUTO = "auto"
    REST = "rest"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class PicklistOption:
    """One choice of a drop-down field. `value` is the API value, `label` what people see."""

    value: str
    label: str
    is_active: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class CrmField:
    """One field as the CRM describes it.

    Attributes:
        name: API name, or a path over a relationship (`Account.Name`).
        value_type: how we store it; None when it cannot be stored (compound, binary).
        native_type: the CRM's own word, for messages and comments.
        length: characters, 0 when unlimited or not text.
        is_calculated: its value changes without moving the record's stamp.
        may_be_masked: users without a certain permission get asterisks instead of its value.
        is_defaulted: a new record gets a value by itself where none is given.
        is_amount: a sum of money, in the currency that the record names.
        references: the objects that an identifier points to.
    """

    name: str
    label: str
    value_type: ValueType | None
    native_type: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    is_nullable: bool = True
    is_filterable: bool = True
    is_calculated: bool = False
    is_updateable: bool = True
    is_createable: bool = True
    is_unique: bool = False
    is_external_id: bool = False
    is_defaulted: bool = False
    may_be_masked: bool = False
    is_amount: bool = False
    references: tuple[str, ...] = ()
    options: tuple[PicklistOption, ...] = ()

    @property
    def is_required(self) -> bool:
        """Whether no record can be made without a value, as far as describe tells."""
        is_filled = self.is_nullable or self.is_defaulted or any(o.is_default for o in self.options)
        return self.is_createable and not is_filled and self.value_type is not ValueType.BOOLEAN


@dataclass(frozen=True, slots=True)
class CrmObject:
    """One record type as the CRM describes it to our user.

    Attributes:
        fields: by API name, only those our user may read.
        id_field: the key.
        cursor_field: the field that orders changes; None when changes cannot be read by it, and
            every sync must read the object whole.
        deleted_field: the boolean that marks records in the recycle bin; None without a bin.
        merged_into_field: names the winner of a merge on its losers; None without merges.
        has_delete_log: the CRM keeps a log of this object's deletions that can be asked.
        converted_into_field: names what a record was converted to; None without conversions.
        currency_field: names the currency of the record's amounts; None where there is only one.
        allowed_changes: what our user may do to records beyond reading: create, edit, delete.
        id_prefix: how the ids of its records begin; None where ids do not tell objects apart.
    """

    name: str
    label: str
    fields: dict[str, CrmField] = field(hash=False)
    id_field: str = "Id"
    cursor_field: str | None = None
    deleted_field: str | None = None
    merged_into_field: str | None = None
    has_delete_log: bool = False
    converted_into_field: str | None = None
    currency_field: str | None = None
    is_custom: bool = False
    allowed_changes: tuple[str, ...] = ()
    id_prefix: str | None = None

    def find(self, name: str) -> CrmField | None:
        """The field of that API name, whatever its case."""
        if name in self.fields:
            return self.fields[name]
        folded = name.casefold()
        return next((f for key, f in self.fields.items() if key.casefold() == folded), None)


@dataclass(frozen=True, slots=True)
class MappedField:
    """One line of a field mapping: a CRM field, the column it fills, and the direction."""

    field: CrmField
    column: str
    direction: Direction = Direction.DOWN


@dataclass(frozen=True, slots=True)
class ObjectSelection:
    """The operator's choice for one object, resolved against the CRM's describe.

    `columns` always contains the id, first.
    """

    crm_object: CrmObject
    table: str
    columns: tuple[MappedField, ...]
    record_filter: RecordFilter | None = None
    transport: Transport = Transport.AUTO

    @property
    def name(self) -> str:
        """The object's API name."""
        return self.crm_object.name

    @property
    def id_column(self) -> str:
        """The column that holds the key."""
        return self.columns[0].column
