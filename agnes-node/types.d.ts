// Written by types.py. What the core reports: keys that only some reports have are optional.

/** An error in a report: its kind, a sentence, and what it is about. */
export interface ErrorReport {
  code: string
  message: string
  source?: string
  table?: string
  path?: string
  view?: string
  column?: string
  extension?: string
  operation?: string
  reason?: string
}

/** What became of one table of a source; `from` which file, where it was one. */
export interface TableOutcome {
  from?: string
  table: string
  rows: number
  status: 'created' | 'replaced' | 'unchanged' | 'gone' | 'removed' | 'failed'
  error?: ErrorReport
}

/** What came in. */
export interface IngestReport {
  tables: TableOutcome[]
  ignored: string[]
  registered: string[]
  unregistered?: ErrorReport[]
}

/** What an extract holds now. */
export interface WriteReport {
  written: string[]
  kept: string[]
  removed: string[]
}

/** Something that was left out, and why. */
export interface Skipped {
  source: string
  table?: string
  error: ErrorReport
}

/** A table whose name belongs to another source. */
export interface Collision {
  view: string
  owner: string
  refused: string
}

/** What a rebuild did. */
export interface RebuildReport {
  generation: number
  published: boolean
  sources: Record<string, string[]>
  created: string[]
  replaced: string[]
  unchanged: number
  dropped: string[]
  collisions: Collision[]
  skipped: Skipped[]
  attached: string[]
}

/** What is published. */
export interface Publication {
  number: number
  tables: number
  at: Date
  oldest_data: Date | null
}

/** Something that an extract gets wrong. */
export interface CheckFinding {
  level: 'advice' | 'fault'
  table?: string
  message: string
}

/** What a check of an extract found. */
export interface ExtractCheck {
  source: string
  tables: string[]
  findings: CheckFinding[]
}

/** How the sync of one source went. */
export interface SourceReport {
  source: string
  status: string
  started_at: Date
  duration_ms: number
  tables: TableOutcome[]
  brought_back?: string[]
  ignored?: string[]
  registered?: string[]
  unregistered?: ErrorReport[]
  error?: ErrorReport
}

/** What a sync did. */
export interface SyncReport {
  sources: SourceReport[]
  not_due: string[]
  rebuild: RebuildReport | null
  rebuild_error?: ErrorReport
  profiles: any
}

/** A group that a user is in, and why. */
export interface InGroup {
  id: string
  name: string
  description: string | null
  is_system: boolean
  created_at: Date
  created_by: string | null
  origin: string
  source: string
}

/** A user; `is_admin` and `groups` where she was asked for. */
export interface User {
  id: string
  email: string
  name: string | null
  active: boolean
  has_password: boolean
  created_at: Date
  updated_at: Date
  deactivated_at: Date | null
  deactivated_by: string | null
  is_admin?: boolean
  role?: string
  is_sso_user?: boolean
  groups?: InGroup[]
}

/** A group; how many members and grants it has where it was asked for. */
export interface Group {
  id: string
  name: string
  description: string | null
  is_system: boolean
  created_at: Date
  created_by: string | null
  origin?: string
  members?: number
  grants?: number
}

/** That a user is in a group. */
export interface Membership {
  user_id: string
  group_id: string
  source: string
  added_at: Date
  added_by: string | null
}

/** A member of a group. */
export interface Member extends Membership {
  email: string
  name: string | null
  active: boolean
}

/** That a group may see something. */
export interface Grant {
  id: string
  group_id: string
  group_name?: string
  resource: string
  assigned_at: Date
  assigned_by: string | null
}

/** A table that somebody asked about. */
export interface About {
  resource: string
  registered: boolean
  published: boolean
  but: string | null
}

/** Whether a user may see a table, and why. */
export interface Explanation extends About {
  user_id: string
  email: string
  allowed: boolean
  reasons: Record<string, string>[]
}

/** Somebody who may see a table. */
export interface MaySee {
  user_id: string
  email: string
  reasons: Record<string, string>[]
}

/** Who may see a table. */
export interface WhoCan extends About {
  able: MaySee[]
}

/** A personal token, without what is secret of it. */
export interface Token {
  id: string
  user_id: string
  name: string
  prefix: string
  scope: string
  created_at: Date
  expires_at: Date | null
  last_used_at: Date | null
  last_used_ip: string | null
  revoked_at: Date | null
}

/** Something that was done. */
export interface AuditEvent {
  at: Date
  user: string | null
  action: string
  resource: string | null
  params: any
  result: string | null
  duration_ms: number | null
}

/** A table that somebody has declared. */
export interface RegisteredTable {
  id: string
  name: string
  source: string
  source_type: string | null
  bucket: string | null
  source_table: string | null
  source_query: string | null
  query_mode: string | null
  sync_strategy: string
  sync_schedule: string | null
  primary_key: string[]
  description: string | null
  folder: string | null
  incremental_window_days: number | null
  max_history_days: number | null
  incremental_column: string | null
  where_filters: any[]
  partition_by: string | null
  partition_granularity: string | null
  initial_load_chunk_days: number | null
  is_public: boolean
  profile_after_sync: boolean
  registered_by: string | null
  registered_at: Date
}

/** What was registered of what is published. */
export interface Adoption {
  registered: RegisteredTable[]
  taken_over: any[]
  left: any[]
}

/** A column: its name and its type in DuckDB. */
export interface Column {
  name: string
  type: string
}

/** How fresh what is known of a remote table is. */
export interface Freshness {
  state: 'never_fetched' | 'error' | 'fresh' | 'stale' | 'not_applicable'
  age_seconds: number | null
  last_error: any
}

/** What is known of a table. */
export interface CatalogEntry {
  id: string
  name: string
  source: string
  is_registered: boolean
  is_published: boolean
  description: string | null
  source_type: string
  sync_strategy: string
  query_mode: string
  rows: number | null
  size_bytes: number | null
  columns: Column[]
  remote: Record<string, any>
  freshness: Freshness | null
}

/** One table of a manifest. */
export interface ManifestEntry {
  hash: string
  hash_blake3: string
  updated: Date | null
  size_bytes: number
  rows: number
  query_mode: string
  source_type: string
  id: string | null
  parts?: Record<string, any>[]
}

/** What somebody may download, with hashes. */
export interface Manifest {
  tables: Record<string, ManifestEntry>
  assets: Record<string, Record<string, string>>
  server_time: Date
}

/** What is known of one remote table. */
export interface MetadataRow {
  table_id: string
  refreshed_at: Date | null
  rows: number | null
  size_bytes: number | null
  partition_by: string | null
  clustered_by: string[]
  entity_type: string | null
  known_columns: string[]
  error_at: Date | null
  error_msg: string | null
  freshness: string
  age_seconds: number | null
}

/** What is known of remote tables. */
export interface MetadataStatus {
  scheduler_interval_seconds: number
  fresh_threshold_seconds: number
  server_time: Date
  tables: MetadataRow[]
}

/** What is in a column. */
export interface ColumnProfile {
  name: string
  type: string
  type_category: string
  completeness_pct: number
  null_count: number
  unique_count: number | null
  unique_pct: number | null
  sample_values: string[]
  is_primary_key: boolean
  alerts: any[]
  numeric_stats?: Record<string, any>
  string_stats?: Record<string, any>
  date_stats?: Record<string, any>
  boolean_stats?: Record<string, any>
}

/** What is in a table, column by column; more keys than these. */
export interface Profile {
  table_id: string
  description: string | null
  primary_key: string[]
  row_count: number
  column_count: number
  columns: ColumnProfile[]
}

/** What a business number means; more keys than these. */
export interface Metric {
  id: string
  name: string
  category: string
  display_name: string
  description: string | null
  sql: string
}

/** What a schedule means at a moment. */
export interface Verdict {
  valid: boolean
  due: boolean
  next: Date | null
  fault?: string
}

/** Something about an installation, and what helps. */
export interface Finding {
  about: string
  health: 'ok' | 'warning' | 'problem'
  seen: string
  cure: string | null
}

/** How many workers there are and have been, and which walls stand around one. */
export interface Workers {
  busy: number
  idle: number
  started: number
  ended: number
  walls: string[]
}

/** The engine that is linked. */
export interface EngineInfo {
  version: string
  icu: boolean
}
