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

