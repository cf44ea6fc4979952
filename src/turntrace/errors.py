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


class KeyMissing(TurntraceError):
    """No key of the ring can open this record."""


class IntegrationMissing(TurntraceError):
    """An optional dependency is not installed."""


class FrameInvalid(TurntraceError, ValueError):
    """A spool frame holds no turn that could be read."""
