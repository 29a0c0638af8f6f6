// What a program in TypeScript does with the package: compiled, not run.

import {
  Agnes,
  AgnesError,
  ExtractWriter,
  open,
  schedule,
  type Connector,
  type ErrorCode,
  type Job,
  type Parameter,
  type RebuildReport,
  type Value,
} from 'agnes'

class Weather implements Connector {
  constructor(private readonly config: { days: number }) {}

  async extract(job: Job): Promise<void> {
    const due: string[] | null = job.tables
    await job.writer.table('forecast', [{ day: this.config.days, at: job.now, due }], { description: 'what comes' })
  }
}

export async function main(signal: AbortSignal): Promise<void> {
  const db: Agnes = await open('data', {
    config: { sources: {} },
    secrets: process.env,
    connectors: { weather: Weather, other: (config: { days: number }) => new Weather(config) },
    metadataProviders: { dwh: async () => ({ rows: 1 }) },
    isolated: true,
  })
  const report: RebuildReport = await db.rebuild(null, { progress: (what, done, total) => console.log(what, done / total) })
  const created: string[] = report.created
  await db.ingest('shop', { orders: [{ id: 1n }] })
  await db.ingest('files', ['a.csv', 'b.csv'], { mistakes: 'text', delimiter: ';' })
  await db.sync(['meteo'], { all: false })
  await db.register('orders', 'shop', { query_mode: 'remote', description: null })
  const allowed: boolean = db.decide('ada@example.com', 'table:orders').allowed
  const session = await db.asUser('ada@example.com')
  const parameters: Parameter[] = [1, 2n, 'three', null, new Date(), new Uint8Array()]
  const rows = await session.sql('SELECT ?', parameters, { signal, maxRows: 10, timeoutMs: 1000 })
  const first: Value[] | null = await rows.fetchone()
  const objects: Record<string, Value>[] = await rows.toObjects()
  for await (const batch of rows) console.log(batch.numRows)
  for await (const bytes of rows.ipc()) console.log(bytes.byteLength)
  const bytes: Uint8Array = await rows.toIpc()
  const [token, secret]: [{ id: string }, string] = await db.createToken('ada@example.com', 'tool', { lifetimeMs: null })
  const writer: ExtractWriter = await db.extractWriter('crm', { mode: 'partial' })
  await writer.finish()
  const next: Date | null = schedule('every 1h', { last: new Date() }).next
  try {
    await db.close()
  } catch (error) {
    if (error instanceof AgnesError) {
      const code: ErrorCode = error.code
      console.log(code, error.retryable, error.context['table'])
    }
  }
  console.log(created, allowed, first, objects, bytes, token, secret, next)
  await using another = await open('other')
  console.log(another.path)
  // @ts-expect-error: there is no such option.
  await open('data', { isolate: true })
  // @ts-expect-error: addresses are strings.
  await db.addUser(42)
}
