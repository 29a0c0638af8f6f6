"""What the core reports, for type checkers: dicts with these keys.

Keys that only some reports have are `NotRequired`; times are `datetime`s in UTC.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if sys.version_info >= (3, 11):
    from typing import NotRequired
elif TYPE_CHECKING:
    from typing_extensions import NotRequired
else:

    class NotRequired:
        """For whoever reads the types of a Python that doesn't know it."""

        def __class_getitem__(cls, kind):
            return kind


class ErrorReport(TypedDict):
    """An error in a report: its kind, a sentence, and what it is about."""

    code: str
    message: str
    source: NotRequired[str]
    table: NotRequired[str]
    path: NotRequired[str]
    view: NotRequired[str]
    column: NotRequired[str]
    extension: NotRequired[str]
    operation: NotRequired[str]
    reason: NotRequired[str]


# A word that no class can spell.
_From = TypedDict("_From", {"from": str}, total=False)


class TableOutcome(_From):
    """What became of one table of a source; `from` which file, where it was one."""

    table: str
    rows: int
    status: Literal["created", "replaced", "unchanged", "gone", "removed", "failed"]
    error: NotRequired[ErrorReport]


class IngestReport(TypedDict):
    """What came in."""

    tables: list[TableOutcome]
    ignored: list[str]
    registered: list[str]
    unregistered: NotRequired[list[ErrorReport]]


class WriteReport(TypedDict):
    """What an extract holds now."""

    written: list[str]
    kept: list[str]
    removed: list[str]


class Skipped(TypedDict):
    """Something that was left out, and why."""

    source: str
    table: NotRequired[str]
    error: ErrorReport


class Collision(TypedDict):
    """A table whose name belongs to another source."""

    view: str
    owner: str
    refused: str


class RebuildReport(TypedDict):
    """What a rebuild did."""

    generation: int
    published: bool
    sources: dict[str, list[str]]
    created: list[str]
    replaced: list[str]
    unchanged: int
    dropped: list[str]
    collisions: list[Collision]
    skipped: list[Skipped]
    attached: list[str]


class Publication(TypedDict):
    """What is published."""

    number: int
    tables: int
    at: datetime
    oldest_data: datetime | None


class CheckFinding(TypedDict):
    """Something that an extract gets wrong."""

    level: Literal["advice", "fault"]
    table: NotRequired[str]
    message: str


class ExtractCheck(TypedDict):
    """What a check of an extract found."""

    source: str
    tables: list[str]
    findings: list[CheckFinding]


class SourceReport(TypedDict):
    """How the sync of one source went."""

    source: str
    status: str
    started_at: datetime
    duration_ms: int
    tables: list[TableOutcome]
    brought_back: NotRequired[list[str]]
    ignored: NotRequired[list[str]]
    registered: NotRequired[list[str]]
    unregistered: NotRequired[list[ErrorReport]]
    error: NotRequired[ErrorReport]


class SyncReport(TypedDict):
    """What a sync did."""

    sources: list[SourceReport]
    not_due: list[str]
    rebuild: RebuildReport | None
    rebuild_error: NotRequired[ErrorReport]
    profiles: Any


class InGroup(TypedDict):
    """A group that a user is in, and why."""

    id: str
    name: str
    description: str | None
    is_system: bool
    created_at: datetime
    created_by: str | None
    origin: str
    source: str


class User(TypedDict):
    """A user; `is_admin` and `groups` where she was asked for."""

    id: str
    email: str
    name: str | None
    active: bool
    has_password: bool
    created_at: datetime
    updated_at: datetime
    deactivated_at: datetime | None
    deactivated_by: str | None
    is_admin: NotRequired[bool]
    role: NotRequired[str]
    is_sso_user: NotRequired[bool]
    groups: NotRequired[list[InGroup]]


class Group(TypedDict):
    """A group; how many members and grants it has where it was asked for."""

    id: str
    name: str
    description: str | None
    is_system: bool
    created_at: datetime
    created_by: str | None
    origin: NotRequired[str]
    members: NotRequired[int]
    grants: NotRequired[int]


class Membership(TypedDict):
    """That a user is in a group."""

    user_id: str
    group_id: str
    source: str
    added_at: datetime
    added_by: str | None


class Member(Membership):
    """A member of a group."""

    email: str
    name: str | None
    active: bool


class Grant(TypedDict):
    """That a group may see something."""

    id: str
    group_id: str
    group_name: NotRequired[str]
    resource: str
    assigned_at: datetime
    assigned_by: str | None


class About(TypedDict):
    """A table that somebody asked about."""

    resource: str
    registered: bool
    published: bool
    but: str | None


class Explanation(About):
    """Whether a user may see a table, and why."""

    user_id: str
    email: str
    allowed: bool
    reasons: list[dict[str, str]]


class MaySee(TypedDict):
    """Somebody who may see a table."""

    user_id: str
    email: str
    reasons: list[dict[str, str]]


class WhoCan(About):
    """Who may see a table."""

    able: list[MaySee]


class Token(TypedDict):
    """A personal token, without what is secret of it."""

    id: str
    user_id: str
    name: str
    prefix: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_ip: str | None
    revoked_at: datetime | None


class AuditEvent(TypedDict):
    """Something that was done."""

    at: datetime
    user: str | None
    action: str
    resource: str | None
    params: Any
    result: str | None
    duration_ms: int | None


class RegisteredTable(TypedDict):
    """A table that somebody has declared."""

    id: str
    name: str
    source: str
    source_type: str | None
    bucket: str | None
    source_table: str | None
    source_query: str | None
    query_mode: str | None
    sync_strategy: str
    sync_schedule: str | None
    primary_key: list[str]
    description: str | None
    folder: str | None
    incremental_window_days: int | None
    max_history_days: int | None
    incremental_column: str | None
    where_filters: list[Any]
    partition_by: str | None
    partition_granularity: str | None
    initial_load_chunk_days: int | None
    is_public: bool
    profile_after_sync: bool
    registered_by: str | None
    registered_at: datetime


class Adoption(TypedDict):
    """What was registered of what is published."""

    registered: list[RegisteredTable]
    taken_over: list[Any]
    left: list[Any]


class Column(TypedDict):
    """A column: its name and its type in DuckDB."""

    name: str
    type: str


class Freshness(TypedDict):
    """How fresh what is known of a remote table is."""

    state: Literal["never_fetched", "error", "fresh", "stale", "not_applicable"]
    age_seconds: int | None
    last_error: Any


class CatalogEntry(TypedDict):
    """What is known of a table."""

    id: str
    name: str
    source: str
    is_registered: bool
    is_published: bool
    description: str | None
    source_type: str
    sync_strategy: str
    query_mode: str
    rows: int | None
    size_bytes: int | None
    columns: list[Column]
    remote: dict[str, Any]
    freshness: Freshness | None


class ManifestEntry(TypedDict):
    """One table of a manifest."""

    hash: str
    hash_blake3: str
    updated: datetime | None
    size_bytes: int
    rows: int
    query_mode: str
    source_type: str
    id: str | None
    parts: NotRequired[list[dict[str, Any]]]


class Manifest(TypedDict):
    """What somebody may download, with hashes."""

    tables: dict[str, ManifestEntry]
    assets: dict[str, dict[str, str]]
    server_time: datetime


class MetadataRow(TypedDict):
    """What is known of one remote table."""

    table_id: str
    refreshed_at: datetime | None
    rows: int | None
    size_bytes: int | None
    partition_by: str | None
    clustered_by: list[str]
    entity_type: str | None
    known_columns: list[str]
    error_at: datetime | None
    error_msg: str | None
    freshness: str
    age_seconds: int | None


class MetadataStatus(TypedDict):
    """What is known of remote tables."""

    scheduler_interval_seconds: int
    fresh_threshold_seconds: int
    server_time: datetime
    tables: list[MetadataRow]


class ColumnProfile(TypedDict):
    """What is in a column."""

    name: str
    type: str
    type_category: str
    completeness_pct: float
    null_count: int
    unique_count: int | None
    unique_pct: float | None
    sample_values: list[str]
    is_primary_key: bool
    alerts: list[Any]
    numeric_stats: NotRequired[dict[str, Any]]
    string_stats: NotRequired[dict[str, Any]]
    date_stats: NotRequired[dict[str, Any]]
    boolean_stats: NotRequired[dict[str, Any]]


class Profile(TypedDict):
    """What is in a table, column by column; more keys than these."""

    table_id: str
    description: str | None
    primary_key: list[str]
    row_count: int
    column_count: int
    columns: list[ColumnProfile]


class Metric(TypedDict):
    """What a business number means; more keys than these."""

    id: str
    name: str
    category: str
    display_name: str
    description: str | None
    sql: str


class Verdict(TypedDict):
    """What a schedule means at a moment."""

    valid: bool
    due: bool
    next: datetime | None
    fault: NotRequired[str]


class Finding(TypedDict):
    """Something about an installation, and what helps."""

    about: str
    health: Literal["ok", "warning", "problem"]
    seen: str
    cure: str | None


class Workers(TypedDict):
    """How many workers there are and have been, and which walls stand around one."""

    busy: int
    idle: int
    started: int
    ended: int
    walls: list[str]


class EngineInfo(TypedDict):
    """The engine that is linked."""

    version: str
    icu: bool
