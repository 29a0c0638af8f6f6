"""A governed data layer, in a notebook or in a program of yours.

Connectors turn each data source into an *extract*, a rebuild publishes all extracts as one analytics
database, and SQL runs on it: as the operator, who sees everything, or as somebody who sees what she was
granted.

    >>> import agnes
    >>> db = agnes.open("data")
    >>> db.ingest("shop", "orders.csv")
    >>> db.rebuild()
    >>> db.sql("SELECT status, sum(amount) FROM orders GROUP BY ALL").to_polars()

Whoever may see what is said in groups and grants:

    >>> db.add_user("ada@example.com")
    >>> db.add_group("sales")
    >>> db.add_member("sales", "ada@example.com")
    >>> db.grant("sales", "table:orders")
    >>> db.as_user("ada@example.com").tables()
    ['orders']

What the core reports comes as dicts and lists, times in it as `datetime`s in UTC. Everything that goes wrong
is an `AgnesError`. Processes that are forked off get an error from whatever was opened before: open it anew
there, or start them by `spawn`.
"""

from agnes._agnes import (
    VERSION as __version__,
    Agnes,
    Decision,
    ExtractWriter,
    Job,
    Rows,
    Session,
    check,
    check_name,
    engine_info,
    open,
    schedule,
)
from agnes.errors import (
    AgnesError,
    CancelledError,
    ConflictError,
    ContractError,
    DeniedError,
    InternalError,
    InvalidError,
    LimitError,
    NotFoundError,
    UnavailableError,
)

__all__ = [
    "Agnes",
    "AgnesError",
    "CancelledError",
    "ConflictError",
    "ContractError",
    "Decision",
    "DeniedError",
    "ExtractWriter",
    "InternalError",
    "InvalidError",
    "Job",
    "LimitError",
    "NotFoundError",
    "Rows",
    "Session",
    "UnavailableError",
    "__version__",
    "check",
    "check_name",
    "engine_info",
    "open",
    "schedule",
]
