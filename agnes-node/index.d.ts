// Written by `make addon` of the addon's sources and of header.d.ts.

import type { About, Adoption, AuditEvent, CatalogEntry, CheckFinding, Collision, Column, ColumnProfile, EngineInfo, ErrorReport, Explanation, ExtractCheck, Finding, Freshness, Grant, Group, InGroup, IngestReport, Manifest, ManifestEntry, MaySee, Member, Membership, MetadataRow, MetadataStatus, Metric, Profile, Publication, RebuildReport, RegisteredTable, Skipped, SourceReport, SyncReport, TableOutcome, Token, User, Verdict, WhoCan, Workers, WriteReport } from './types'
// @ts-ignore: an optional package; without it these are `any`.
import type { RecordBatch, Table } from 'apache-arrow'

export * from './types'

/** A value that is bound to `?` in a statement. Numbers without a fraction are whole numbers. */
export type Parameter = null | undefined | boolean | number | bigint | string | Uint8Array | Date

/**
 * A value of a row. 64-bit and larger integers are BigInts, moments with a time zone `Date`s (to the millisecond);
 * days, times of day, moments without a zone and decimals are strings.
 */
export type Value = null | boolean | number | bigint | string | Uint8Array | Date | Value[] | { [key: string]: Value }

/** Rows of Arrow: a table of apache-arrow, or the bytes of Arrow IPC, a stream or a file. */
export type ArrowData = Uint8Array | Table | RecordBatch

/** Rows: of Arrow, or objects, whose types are told as those of a JSON file are. */
export type TableData = ArrowData | object[]

/** Hears what is done, how many parts of it are done, and of how many. */
export type Progress = (what: string, done: number, total: number) => void | Promise<void>

/** Brings a source over: writes what it has now to `job.writer`. */
export interface Connector {
  extract(job: Job): void | Promise<void>
}

/** Tells how large a remote table is; null where nobody knows. */
export type MetadataProvider =
  | ((table: Record<string, any>) => RemoteMetadata | null | Promise<RemoteMetadata | null>)
  | { metadata(table: Record<string, any>): RemoteMetadata | null | Promise<RemoteMetadata | null> }

/** What a provider knows of a remote table. */
export interface RemoteMetadata {
  rows?: number | null
  size_bytes?: number | null
  partition_by?: string | null
  clustered_by?: string[]
  entity_type?: string | null
  known_columns?: string[]
}

/** How a data folder is opened. */
export interface OpenOptions {
  /** The path of an `instance.yaml`, or what would stand in one. */
  config?: string | URL | Record<string, any> | null
  /**
   * The variables that the configuration and the sources' tokens are taken from: `process.env`, or a function of a
   * name. Nothing else of the environment is read.
   */
  secrets?: Record<string, string | undefined> | ((name: string) => string | null | undefined | Promise<string | null | undefined>) | null
  /** Classes of connectors, or functions that make one, by the name that `sources.<name>.connector` says. */
  connectors?: Record<string, (new (config: any) => Connector) | ((config: any) => Connector | Promise<Connector>)> | null
  /** What knows how large the remote tables of a source are, by its name. */
  metadataProviders?: Record<string, MetadataProvider> | null
  /** Whether statements run in worker processes that the kernel keeps in; a path names the program for them. */
  isolated?: boolean | string | URL | null
}

/** How files are read, and how far it is. */
export interface IngestOptions extends ProgressOptions {
  mistakes?: 'fail' | 'text'
  prune?: boolean
  encoding?: 'utf-8' | 'utf-16' | 'latin-1'
  delimiter?: string
  header?: boolean
}

/** What can be declared about a table; the fields of `RegisteredTable`. */
export type Declared = Partial<Omit<RegisteredTable, 'id' | 'name' | 'source' | 'registered_by' | 'registered_at'>>

/** A table that is registered anew. */
export type NewTable = Declared & { id?: string | null }

/** What names can be of. */
export type NameKind = 'source' | 'table' | 'view' | 'alias' | 'extension' | 'external' | 'column' | 'token_env'

/** What kind of error it is: what the caller can do about it. */
export type ErrorCode =
  | 'Invalid' | 'Denied' | 'NotFound' | 'Conflict' | 'Contract' | 'Unavailable' | 'Limit' | 'Cancelled' | 'Internal'

/** Something went wrong; `code` says what the caller can do about it. */
export declare class AgnesError extends Error {
  constructor(code: ErrorCode, message: string, options?: { context?: Record<string, string>; cause?: unknown })
  readonly name: 'AgnesError'
  readonly code: ErrorCode
  /** Whether the same call may succeed later, with nothing changed. */
  readonly retryable: boolean
  /** What it is about: `source`, `table`, `path`, `view`, `column`, `extension`, `operation`, `reason`. */
  readonly context: Record<string, string>
}

/**
 * Whether somebody may see something, and why.
 *
 * It holds for the moment in which it was made.
 */
export declare class Decision {
  private constructor()
  /** Whether she may. */
  get allowed(): boolean
  /** Every reason to allow it, or the one not to: an object each, with `because`. */
  get reasons(): Record<string, string>[]
  /** What it is about, as in `table:orders`. */
  get resource(): string
  /** What it is, for people. */
  toString(): string
}

export interface QueryOptions extends Cancelling {}
export interface ScanOptions extends Cancelling {}
export interface MetricOptions extends Cancelling {}

/** What ends a statement. */
export interface Cancelling {
  /** Ends it, while it begins and while its rows are read. */
  signal?: AbortSignal | null
}

export interface Rows extends AsyncIterable<RecordBatch> {
  /** All rows as arrays of values. */
  fetchall(): Promise<Value[][]>
  /** The first row, or null: always the first, however often it is asked for. */
  fetchone(): Promise<Value[] | null>
  /** All rows as objects. */
  toObjects(): Promise<Record<string, Value>[]>
  /** All rows as a table of the package apache-arrow. */
  toArrow(): Promise<Table>
  /** All rows as a stream of Arrow IPC, in one piece. */
  toIpc(): Promise<Uint8Array>
  /** A stream of Arrow IPC, as its rows come. */
  ipc(): AsyncGenerator<Uint8Array, void, void>
}

export declare namespace ExtractWriter {
  /** Begins the extract in a folder whose last part is the source's name. */
  function begin(folder: string | URL, options?: WriterOptions | null): Promise<ExtractWriter>
}

export interface Agnes {
  /** Whether a user may see something, as in `table:orders`. At once: everything that it needs is in memory. */
  decide(email: string, resource: string): Decision
}

// What `await using` calls, where TypeScript knows it.
export interface Agnes {
  // @ts-ignore
  [Symbol.asyncDispose](): Promise<void>
}
export interface Session {
  // @ts-ignore
  [Symbol.asyncDispose](): Promise<void>
}
export interface Rows {
  // @ts-ignore
  [Symbol.asyncDispose](): Promise<void>
}
export interface ExtractWriter {
  // @ts-ignore
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * A data folder, open: extracts come in, one analytics database comes out, SQL runs on it.
 *
 * Made by `open`. Close it for other processes to have the folder. Whoever holds it is the operator, who may do
 * everything: `asUser` gives what somebody else may see.
 */
export declare class Agnes {
  /** The data folder, absolute. */
  get path(): string
  /** Closes it, with the sessions and rows that came of it. Other processes may have the folder then. */
  close(): Promise<void>
  /** What it is, for people. */
  toString(): string
  /**
   * Brings a source in: files (a path, or an array of paths of files and folders), tables (an object of names
   * and rows), or an object with a method `extract(job)`. A rebuild publishes what came in.
   */
  ingest(source: string, data: string | URL | (string | URL)[] | Record<string, TableData> | Connector, options?: IngestOptions | null): Promise<IngestReport>
  /** Begins to write the extract of a source. */
  extractWriter(source: string, options?: WriterOptions | undefined | null): Promise<ExtractWriter>
  /** Looks at the extract of a source with the eyes of a rebuild: what it holds, and what is wrong. */
  check(source: string): Promise<ExtractCheck>
  /** Shows what a rebuild would do, without doing it. */
  planRebuild(source?: string | undefined | null): Promise<Record<string, any>>
  /** Publishes what the extracts hold now: all of them, or one while the others stay as they were. */
  rebuild(source?: string | undefined | null, options?: ProgressOptions | undefined | null): Promise<RebuildReport>
  /** What is published now in a few figures, or null. */
  publication(): Promise<Publication | null>
  /** A session over everything that is published, as the operator sees it. */
  session(): Promise<Session>
  /** A session over what a user may see. */
  asUser(email: string): Promise<Session>
  /** A session over what the owner of a token may see: a personal one, or that of a session. */
  asToken(token: string): Promise<Session>
  /** Runs a query over everything that is published now; see `Session.sql`. */
  sql(query: string, parameters?: Parameter[] | null, options?: QueryOptions | null): Promise<Rows>
  /**
   * How many workers there are and have been, and which walls the kernel has raised around one; null where
   * statements run in this process.
   */
  workers(): Promise<Workers | null>
  /** What is wrong with the data folder, and what helps. */
  examine(): Promise<Finding[]>
  /** Writes what no sync brings back to one file. */
  backUp(path: string | URL): Promise<Record<string, any>>
  /** Gives back what a backup holds. */
  restore(path: string | URL): Promise<Record<string, any>>
  /** Every user, by address. */
  users(): Promise<User[]>
  /** One user, with her groups. */
  user(email: string): Promise<User>
  /** Adds a user, who may see nothing yet; an admin, who may do everything. */
  addUser(email: string, options?: UserOptions | undefined | null): Promise<User>
  /** Removes a user, with her memberships and tokens. */
  removeUser(email: string): Promise<void>
  /** Lets a user in again, or no more; her groups stay. */
  setActive(email: string, active: boolean): Promise<User>
  /** Every group, with how many members and grants it has. */
  groups(): Promise<Group[]>
  /** Adds a group. */
  addGroup(name: string, options?: GroupOptions | undefined | null): Promise<Group>
  /** Removes a group, with its grants. */
  removeGroup(name: string): Promise<void>
  /** The members of a group. */
  members(group: string): Promise<Member[]>
  /** Puts a user into a group. */
  addMember(group: string, email: string): Promise<Membership>
  /** Takes a user out of a group. */
  removeMember(group: string, email: string): Promise<void>
  /** Every grant. */
  grants(): Promise<Grant[]>
  /** Lets a group see something: `table:orders`. */
  grant(group: string, resource: string): Promise<Grant>
  /** Lets a group see something no more. It holds from the moment that the promise is kept. */
  revoke(group: string, resource: string): Promise<Grant>
  /** Whether a user may see a table, named by its id or its name, why, and whether there is anything to see. */
  explain(email: string, table: string): Promise<Explanation>
  /** Who may see a table, and why. */
  whoCan(table: string): Promise<WhoCan>
  /**
   * Makes a personal token, with which programs act for a user. Gives what is known of it, and the token itself,
   * which is told once.
   */
  createToken(email: string, name: string, options?: TokenOptions | undefined | null): Promise<[Token, string]>
  /** Every personal token, without what is secret of it. */
  tokens(): Promise<Token[]>
  /** Ends a personal token, by its id. */
  revokeToken(id: string): Promise<void>
  /** The last events of the audit log, the newest first: 100 where nothing is said. */
  audit(limit?: number | undefined | null): Promise<AuditEvent[]>
  /** Every registered table, by name. */
  registeredTables(): Promise<RegisteredTable[]>
  /** Registers a table, which may be published already or not yet, so that it can be granted. */
  register(name: string, source: string, declared?: NewTable | null): Promise<RegisteredTable>
  /** Changes what is declared about a registered table, named by its id or name; what isn't given stays. */
  updateTable(table: string, declared: Declared): Promise<RegisteredTable>
  /** Takes a table out of the registry, with its grants, and out of what is published. */
  unregister(table: string): Promise<RegisteredTable>
  /** Registers what is published and isn't registered yet: of one source, or of all. */
  adopt(source?: string | undefined | null): Promise<Adoption>
  /** Which sources a sync would bring over now, and which of their tables. */
  planSync(sources?: string | string[] | null, options?: PlanOptions | null): Promise<Record<string, any>>
  /**
   * Brings sources over with their connectors, and publishes what they hold: those that are named, all, or those
   * that are due.
   */
  sync(sources?: string | string[] | null, options?: SyncOptions | null): Promise<SyncReport>
  /** How large and how fresh every remote table is, as far as anybody knows. Nobody is asked. */
  metadataStatus(): Promise<MetadataStatus>
  /**
   * Asks the providers: about one remote table, or about all (`stale`: about those that aren't fresh).
   *
   * Of all one refresh at a time runs: where one does already, its `run_id` and `started_at` are given with
   * `already_running`.
   */
  refreshMetadata(table?: string | undefined | null, options?: RefreshOptions | undefined | null): Promise<Record<string, any>>
  /** Profiles the tables that have changed since they were last: these, or all that are published. */
  refreshProfiles(tables?: string | string[] | null, options?: ProgressOptions | null): Promise<any>
  /** Every metric, by id. */
  metrics(): Promise<Metric[]>
  /** Takes metrics in from a text of YAML, and gives their ids. */
  putMetrics(yaml: string, options?: MetricsOptions | undefined | null): Promise<string[]>
  /** Takes metrics in from a file of YAML, or from a folder of them. */
  importMetrics(path: string | URL): Promise<Record<string, any>>
  /** Writes every metric to a folder, and gives the files. */
  exportMetrics(folder: string | URL): Promise<string[]>
  /** Removes a metric. */
  removeMetric(id: string): Promise<void>
  /** Holds every metric against the tables that are published. */
  checkMetrics(): Promise<any[]>
}

/**
 * Writes the extract of a source: the folder that a rebuild reads.
 *
 * Nothing is seen of it before `finish`. Made by `Agnes.extractWriter`, or given to a connector, whose end
 * finishes it.
 */
export declare class ExtractWriter {
  /** Writes a table: of an Arrow table, of its IPC bytes, or of an array of objects. */
  table(name: string, rows: TableData, options?: TableOptions | null): Promise<void>
  /**
   * Writes one shard of a table, of Arrow rows. Shards are read together, in the order of their names, columns
   * matched by name.
   */
  shard(name: string, shard: string, rows: ArrowData): Promise<void>
  /** Takes a copy of a parquet file as a table. */
  tableFromParquet(name: string, file: string | URL): Promise<void>
  /**
   * Writes a table from the rows of a query that DuckDB runs with the rights of this process: it may read any
   * file.
   */
  tableFromSql(name: string, query: string): Promise<void>
  /** Says what a table is that was written. */
  describe(name: string, description: string): Promise<void>
  /** Takes a table out of the extract. */
  remove(name: string): Promise<void>
  /** Says how to attach the system in which remote tables lie. */
  remoteAttach(alias: string, options: RemoteAttachOptions): Promise<void>
  /** Publishes a table whose rows stay in a remote system. */
  remoteTable(name: string, options: RemoteTableOptions): Promise<void>
  /** Checks, flushes and publishes what was written. */
  finish(): Promise<WriteReport>
  /** Gives it up: the extract stays as it was. */
  abandon(): Promise<void>
  /** What it is, for people. */
  toString(): string
}

/**
 * The rows of a statement, which has begun: they come as they are read.
 *
 * Whoever reads them a second time has the statement run again, in the same session and over the same tables.
 * Rows that aren't read to their end are to be closed: the statement waits for its reader.
 */
export declare class Rows {
  /** The names of the columns. */
  get columns(): Array<string>
  /** The types of the columns, in their order. */
  get types(): Array<string>
  /** Whether rows were left out because of `maxRows` or `maxBytes`; `null` until they were read. */
  get truncated(): boolean | null
  /** Lets go of them, and ends the statement. */
  close(): Promise<void>
  /** What they are, for people. */
  toString(): string
}

/**
 * SQL over the tables that one user may see, as they were published when it was opened.
 *
 * Whatever is rebuilt meanwhile, its statements see the same rows: open another one for what is new. It ends
 * when one of its tables is taken from its user; every later statement is `Denied`.
 */
export declare class Session {
  /**
   * Runs a query, and gives its rows as they come.
   *
   * Parameters are bound to `?` or `$1`, `$2`, … and never become a part of the text. A statement that takes
   * longer than its time ends with `Limit`, and so does one that needs more memory than it may have. A
   * `signal` ends it, too, with `Cancelled`.
   */
  sql(query: string, parameters?: Parameter[] | null, options?: QueryOptions | null): Promise<Rows>
  /** Reads a table: some columns, the rows for which a condition holds, in an order. */
  scan(table: string, options?: ScanOptions | null): Promise<Rows>
  /** Computes a metric, or one of its variants. */
  metric(metric: string, options?: MetricOptions | null): Promise<Rows>
  /** The names of the tables that it shows. */
  tables(): Promise<string[]>
  /** The tables that a query would read. It doesn't run. */
  reads(query: string): Promise<string[]>
  /** The number of the generation that it sees. */
  get generation(): number
  /** What its user may discover: an object for each table. */
  catalog(): Promise<CatalogEntry[]>
  /** What its user may download, with hashes. */
  manifest(): Promise<Manifest>
  /** What is in a table, column by column: how full, how many different values, ranges and more. */
  profile(table: string): Promise<Profile>
  /** The metrics whose tables its user may see. */
  metrics(): Promise<Metric[]>
  /** Lets go of it, and ends what it runs. */
  close(): Promise<void>
  /** What it is, for people. */
  toString(): string
}

/** Looks at the extract in a folder with the eyes of a rebuild: what it holds, and what is wrong. */
export declare function check(folder: string | URL): Promise<ExtractCheck>

/** Checks a name of a kind. Gives it back, or says what is wrong with it. */
export declare function checkName(kind: NameKind, name: string): string

/** The engine that is linked: its version, and whether it knows time zones. */
export declare function engineInfo(): Promise<EngineInfo>

/** What is known of a new group. */
export interface GroupOptions {
  /** For people who look for groups. */
  description?: string
}

/**
 * What a connector is asked to do.
 *
 * It writes what its source has now to `writer`, which is finished when `extract` has ended. Tables that it
 * doesn't write stay as they are.
 */
export interface Job {
  /** The source that it is to bring over. */
  source: string
  /** The tables that are due; null for all. */
  tables: string[] | null
  /** What is declared about the source's tables: an object for each. */
  declared: any[]
  /** The present moment. */
  now: Date
  /** Takes the tables. */
  writer: ExtractWriter
}

/** Which variant of a metric. */
export interface MetricOptions {
  /** Its name; the metric itself where none is named. */
  variant?: string
}

/** What metrics belong to. */
export interface MetricsOptions {
  /** Their category, where they don't say one themselves. */
  category?: string
}

/** Opens a data folder, which need not exist yet. */
export declare function open(path: string | URL, options?: OpenOptions | null): Promise<Agnes>

/** Which sources a plan is of. */
export interface PlanOptions {
  /** Whether those that aren't due are meant, too. */
  all?: boolean
}

/** How far something is, told as it goes on. */
export interface ProgressOptions {
  /** Hears what is done, how many parts of it are done, and of how many. */
  progress?: Progress
}

/** What a statement may take. */
export interface QueryOptions {
  /** How many rows at most; `truncated` says whether there were more. */
  maxRows?: number
  /** How many bytes of rows at most, as Arrow has them. */
  maxBytes?: number
  /** How long it may take, in milliseconds: 60,000 where nothing else is configured. */
  timeoutMs?: number
}

/** Which remote tables are asked about. */
export interface RefreshOptions {
  /** Only those of which nothing fresh is known. */
  stale?: boolean
}

/** How to attach a remote system. */
export interface RemoteAttachOptions {
  /** The engine's extension for it. */
  extension: string
  /** Where it is. */
  url: string
  /** The variable in which its token stands, on the machine that attaches it. */
  tokenEnv?: string
}

/** A table whose rows stay in a remote system. */
export interface RemoteTableOptions {
  /** The system that it lies in, as `remoteAttach` calls it. */
  alias: string
  /** What leads to it there, as in `['public', 'orders']`. */
  path: Array<string>
  /** Its columns: pairs of a name and a type of DuckDB. */
  columns?: [name: string, type: string][]
  /** How many rows it has, roughly. */
  rows?: number
  /** How many bytes. */
  sizeBytes?: number
}

/** Which rows of a table, and which of its columns. */
export interface ScanOptions {
  /** Columns; all where none are named. */
  select?: Array<string>
  /** A condition, as in `amount > 10`. */
  where?: string
  /** Columns, each perhaps with ` desc` after it. */
  orderBy?: Array<string>
  /** How many rows at most. */
  limit?: number
}

/** What a schedule means: whether it is one, whether a sync is due, and when the next one is. */
export declare function schedule(schedule: string | null, options?: ScheduleOptions | null): Verdict

/** When a schedule is looked at. */
export interface ScheduleOptions {
  /** When the last sync was. */
  last?: Date | string | null
  /** The present moment, where it isn't that of the clock. */
  now?: Date | string | null
}

/** Which sources, and how far it is. */
export interface SyncOptions {
  /** Whether those that aren't due are meant, too. */
  all?: boolean
  /** Hears what is done, how many parts of it are done, and of how many. */
  progress?: Progress
}

/** What a table is. */
export interface TableOptions {
  /** For people who look for data. */
  description?: string
}

/** What a token is for. */
export interface TokenOptions {
  /** How long it holds, in milliseconds: 90 days where nothing is said, null for ever. */
  lifetimeMs?: number | null
}

/** What is known of a new user. */
export interface UserOptions {
  /** What people call her. */
  name?: string
  /** Whether she may do everything. */
  admin?: boolean
}

/** This version of Agnes. */
export declare const VERSION: string

/** What becomes of the tables that aren't written. */
export interface WriterOptions {
  /** `partial` for those to stay; `replace`, which is what happens otherwise, for them to go. */
  mode?: 'replace' | 'partial'
}
