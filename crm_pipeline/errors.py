"""Every way to fail, by what the caller should do about it.

    CrmPipelineError
    ├── UsageError              fix the settings or the command, then run again
    │   ├── ConfigurationError      the settings file; knows file and line
    │   └── CredentialsError        the CRM refuses to log us in
    ├── TransientError          try again later by itself; knows `retry_after_seconds`
    │   ├── ReadExpired             the CRM forgot a half-read result; read that object anew
    │   ├── NotAccepted             the CRM takes nothing from us now; nothing was done
    │   └── FailedMidway            the CRM failed over a request; part of it may be done
    ├── PermanentError          trying again cannot help; a person must act
    │   ├── ObjectUnavailable       the object is gone, or hidden from our user
    │   ├── FieldUnavailable        mapped fields are gone, or hidden from our user
    │   ├── IncompleteRead          the CRM handed over fewer or more records than it said
    │   ├── MassDisappearance       so many rows would vanish that a person must agree
    │   └── WrongOrganization       this warehouse belongs to another organisation
    └── Interrupted             stopped at a safe point; nothing is wrong and nothing is lost
        ├── LeaseBusy               somebody else is syncing the object
        ├── LeaseLost               we were too slow and somebody else took over
        └── SyncsDisabled           the operator's off switch

Belongs here: a new verdict, or a new fact that a caller branches on. Does not belong here: texts of
one vendor (crm/<vendor>/failures.py translates those) and rows that do not fit (the quarantine
records them; a row never raises).
"""


class CrmPipelineError(Exception):
    """Root of the tree: catch it only to report and to choose an exit code."""


class UsageError(CrmPipelineError):
    """The operator can mend this by changing settings or the command line."""


class ConfigurationError(UsageError):
    """The settings cannot be used as they are.

    Attributes:
        file: path of the settings file as the operator spelt it, if the fault is in a file.
        line: 1-based line in that file, if known.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + message)
        self.file = file
        self.line = line


class CredentialsError(UsageError):
    """The CRM refused our login; more tries could lock the integration user out."""


class TransientError(CrmPipelineError):
    """The other side is busy, down or slow: the same request may succeed later.

    Attributes:
        retry_after_seconds: what the other side asked us to wait, if it said so.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ReadExpired(TransientError):
    """A bulk job or cursor that we meant to go on with no longer exists in the CRM."""


class NotAccepted(TransientError):
    """A limit is spent, or the CRM is closed for maintenance: this request did nothing at all."""


class FailedMidway(TransientError):
    """Something in the CRM broke while it worked on the request, perhaps over one record of it."""


class PermanentError(CrmPipelineError):
    """Repeating the request cannot help; the sentence says what a person should do."""


class ObjectUnavailable(PermanentError):
    """The object does not exist in the org, or the integration user may not see it."""

    def __init__(self, object_name: str, message: str) -> None:
        super().__init__(message)
        self.object_name = object_name


class FieldUnavailable(PermanentError):
    """Mapped fields do not exist in the org, or the integration user may not see them."""

    def __init__(self, object_name: str, fields: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.object_name = object_name
        self.fields = fields


class IncompleteRead(PermanentError):
    """The staged count is not what the CRM announced, even after reading again."""


class MassDisappearance(PermanentError):
    """More rows would vanish at once than a fault of the CRM or of a filter may take from us.

    Attributes:
        vanishing: rows that would become tombstones because they were not there any more.
        live: live rows before.
    """

    def __init__(self, object_name: str, *, vanishing: int, live: int) -> None:
        super().__init__(
            f"{object_name}: {vanishing:,} of {live:,} live rows are not among the records that "
            "the CRM shows us now. Nothing was changed. If that is meant so, by a filter, a "
            f"permission or a deletion, agree with `crm-pipeline accept {object_name}` and sync "
            "again. If not, mend the cause in the CRM or in the settings."
        )
        self.object_name = object_name
        self.vanishing = vanishing
        self.live = live


class WrongOrganization(PermanentError):
    """The credentials lead to another organisation than the one whose data the warehouse holds."""


class Interrupted(CrmPipelineError):
    """We stopped at a safe point on purpose."""


class LeaseBusy(Interrupted):
    """Another sync owns the object.

    Attributes:
        owner: the run that holds the lease.
        expires_in_seconds: when the lease falls free if its holder is dead.
    """

    def __init__(self, message: str, *, owner: str, expires_in_seconds: float) -> None:
        super().__init__(message)
        self.owner = owner
        self.expires_in_seconds = expires_in_seconds


class LeaseLost(Interrupted):
    """Our lease ran out and another run took the object; what we staged may not be committed."""


class SyncsDisabled(Interrupted):
    """`syncs_enabled` is false: nothing moves in either direction."""
