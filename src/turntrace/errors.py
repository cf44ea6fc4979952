"""Every error Turntrace raises on purpose. The docstring of a class is its default message."""


class TurntraceError(Exception):
    """Turntrace could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class SettingsError(TurntraceError, ValueError):
    """A setting is unusable."""


class SchemaOutOfDate(TurntraceError):
    """The database schema is older than this release: run `turntrace db upgrade`."""


class SchemaTooNew(TurntraceError):
    """The database schema is newer than this release: upgrade the turntrace package."""


class DatabaseUnavailable(TurntraceError):
    """The database cannot be reached."""


class StorageFull(TurntraceError):
    """The database has reached `storage_max_bytes`: turns wait in the spool. Shorten retention, or raise the limit."""


class DriverMissing(TurntraceError):
    """The driver for this database is not installed."""


class NotFound(TurntraceError, LookupError):
    """No such record."""


class Ambiguous(TurntraceError):
    """Several turns share this W3C trace id: name one of `turn_ids`."""

    def __init__(self, turn_ids: tuple[str, ...]) -> None:
        self.turn_ids = turn_ids
        super().__init__(f"several turns share this trace id: name one of {', '.join(turn_ids)}")


class InvalidInput(TurntraceError, ValueError):
    """A value is not allowed here."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class Forbidden(TurntraceError):
    """This person may not see that."""


class BudgetExceeded(TurntraceError):
    """A budget is used up; `renews_at_us` (Unix microseconds) and `retry_after_seconds` say when there is more."""

    def __init__(self, name: str, *, scope: str, period: str, renews_at_us: int, retry_after_seconds: int) -> None:
        self.name, self.scope, self.period = name, scope, period
        self.renews_at_us, self.retry_after_seconds = renews_at_us, retry_after_seconds
        super().__init__(f"the budget {name!r} of this {period} is used up: try again in {retry_after_seconds} s")


class BudgetUnavailable(TurntraceError):
    """Budgets cannot be checked now, and the setting budget_failure is closed: try again later."""

    retry_after_seconds = 5


class KeyMissing(TurntraceError):
    """No key of the ring can open this record."""


class IntegrationMissing(TurntraceError):
    """An optional dependency is not installed."""


class FrameInvalid(TurntraceError, ValueError):
    """A spool frame holds no turn that could be read."""


class EvaluationFailed(TurntraceError):
    """An evaluator came to no verdict.

    `reason` is a short word such as `timeout`, `http_429` or `not_json`; `retry_after_seconds` is what the other side
    asked for. What is not worth another try (`is_final`) is not tried again.
    """

    def __init__(
        self,
        reason: str,
        message: str | None = None,
        *,
        is_final: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.reason, self.is_final, self.retry_after_seconds = reason, is_final, retry_after_seconds
        super().__init__(message or f"the evaluator came to no verdict: {reason}")
