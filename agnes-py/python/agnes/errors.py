"""What can go wrong. Every exception that Agnes raises is an `AgnesError`."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AgnesError",
    "CancelledError",
    "ConflictError",
    "ContractError",
    "DeniedError",
    "InternalError",
    "InvalidError",
    "LimitError",
    "NotFoundError",
    "UnavailableError",
]


class AgnesError(Exception):
    """Something went wrong; its class says what the caller can do about it.

    Raised by connectors and providers of yours, one of its subclasses keeps its kind.
    """

    code: str = "Internal"
    """The kind, as every door of Agnes calls it."""

    retryable: bool = False
    """Whether the same call may succeed later, with nothing changed."""

    context: dict[str, str]
    """What it is about: `source`, `table`, `path`, `view`, `column`, `extension`, `operation`, `reason`."""

    def __init__(self, message: str = "", context: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.context = dict(context or {})


class InvalidError(AgnesError, ValueError):
    """The call is wrong: fix it."""

    code = "Invalid"


class DeniedError(AgnesError, PermissionError):
    """Not permitted, or (to anybody but an admin) not there: ask an admin."""

    code = "Denied"


class NotFoundError(AgnesError, LookupError):
    """Nothing of that name: check the name."""

    code = "NotFound"


class ConflictError(AgnesError):
    """It clashes with what is there: rename, or retry with the new state."""

    code = "Conflict"


class ContractError(AgnesError):
    """An extract breaks the contract, or a connector failed: fix the connector."""

    code = "Contract"


class UnavailableError(AgnesError):
    """Not now: retry."""

    code = "Unavailable"
    retryable = True


class LimitError(AgnesError):
    """A limit was reached: ask for less, or later."""

    code = "Limit"


class CancelledError(AgnesError):
    """The caller cancelled it."""

    code = "Cancelled"


class InternalError(AgnesError):
    """A bug in Agnes: report it."""

    code = "Internal"
