// Who may see what: users, groups, grants, tokens, decisions.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ADA, BOB, agnes, publish, rejects, withFolder } from './support.mjs'

test('two users see different tables', () =>
  withFolder(async (db) => {
    await publish(db)
    const [ada, bob] = [await db.asUser(ADA), await db.asUser(BOB)]
    assert.deepEqual(await ada.tables(), ['airports'])
    assert.deepEqual(await bob.tables(), [])
    assert.deepEqual(await (await ada.sql('SELECT count(*) FROM airports')).fetchall(), [[3376n]])
    await rejects(bob.sql('FROM airports'), 'Denied')
    assert.deepEqual((await ada.catalog()).map((entry) => entry.name), ['airports'])
    assert.deepEqual(Object.keys((await ada.manifest()).tables), ['airports'])
    assert.equal((await ada.profile('airports')).row_count, 3376)
    await rejects(ada.profile('flights'), 'Denied')
    assert.ok(ada.generation >= 1)
    await rejects(db.asUser('nobody@example.com'), 'NotFound')
    await rejects(db.asUser('no address'), 'Invalid')
  }))

test('what is revoked is gone when the promise is kept', () =>
  withFolder(async (db) => {
    await publish(db)
    const ada = await db.asUser(ADA)
    const rows = await ada.sql('SELECT a.iata FROM airports a, airports b')
    await db.revoke('pilots', 'table:airports')
    await rejects(ada.sql('FROM airports'), 'Denied')
    await rejects(rows.fetchall(), 'Denied')
    assert.equal(db.decide(ADA, 'table:airports').allowed, false)
    await db.grant('pilots', 'table:airports')
    await db.setActive(ADA, false)
    await rejects(db.asUser(ADA), 'Denied')
    assert.equal((await db.setActive(ADA, true)).active, true)
    await db.removeMember('pilots', ADA)
    assert.deepEqual(await (await db.asUser(ADA)).tables(), [])
  }))

test('a decision says why', () =>
  withFolder(async (db) => {
    await publish(db)
    const decision = db.decide(ADA, 'table:airports')
    assert.equal(decision.allowed, true)
    assert.equal(decision.resource, 'table:airports')
    assert.ok(decision.reasons.every((reason) => typeof reason.because === 'string'))
    assert.match(String(decision), /^Decision \{ allowed: true, resource: 'table:airports', reasons: \[.*'pilots'/)
    // It holds for its moment, and nobody changes it.
    await db.revoke('pilots', 'table:airports')
    decision.reasons.push({ because: 'admin' })
    assert.equal(decision.allowed, true)
    assert.equal(decision.reasons.length, 1)
    assert.equal(db.decide(ADA, 'table:airports').allowed, false)
    await db.grant('pilots', 'table:airports')
    assert.deepEqual(db.decide(BOB, 'table:airports').reasons, [{ because: 'not_granted' }])
    const explained = await db.explain(BOB, 'airports')
    assert.deepEqual([explained.allowed, explained.published], [false, true])
    assert.deepEqual((await db.whoCan('airports')).able.map((one) => one.email), [ADA])
    // Nobody makes one up, and nobody changes who decides.
    for (const key of Object.getOwnPropertySymbols(db)) {
      assert.throws(() => new agnes.Decision(key, '{"allowed":true,'))
      assert.throws(() => { db[key] = () => '{"allowed":true,' }, TypeError)
    }
    assert.equal(Object.freeze(db).decide(BOB, 'table:airports').allowed, false)
    for (const [email, resource] of [['nobody@example.com', 'table:airports'], [ADA, 'airports'], [42, 'table:x'], []]) {
      assert.throws(() => db.decide(email, resource), agnes.AgnesError)
    }
  }))

test('users, groups and grants are told and changed', () =>
  withFolder(async (db) => {
    await publish(db)
    const eve = await db.addUser('eve@example.com', { name: 'Eve', admin: true })
    assert.equal(eve.name, 'Eve')
    assert.ok(eve.created_at instanceof Date)
    assert.equal((await db.user('eve@example.com')).is_admin, true)
    await rejects(db.addUser('eve@example.com'), 'Conflict')
    await rejects(db.addUser('x@example.com', { admn: true }), 'Invalid', /no option `admn`/)
    assert.equal((await rejects(db.removeUser('eve@example.com'), 'Conflict')).context.reason, 'last_admin')
    assert.equal(await db.removeUser(BOB), undefined)
    assert.deepEqual((await db.users()).map((user) => user.email).sort(), [ADA, 'eve@example.com'])
    await db.addGroup('crew', { description: 'who flies' })
    assert.equal((await db.groups()).find((group) => group.name === 'crew').description, 'who flies')
    assert.deepEqual((await db.members('pilots')).map((member) => member.email), [ADA])
    assert.equal((await db.grants()).length, 1)
    assert.equal(await db.removeGroup('crew'), undefined)
    assert.ok((await db.audit(5)).length === 5)
    await rejects(db.audit(-1), 'Invalid', /whole number/)
    assert.deepEqual((await db.registeredTables()).map((table) => table.name).sort(), ['airports', 'flights', 'seattle_weather'])
    assert.deepEqual((await db.adopt()).registered, [])
    assert.ok((await db.examine()).length > 0)
    assert.equal(await db.workers(), null)
    assert.ok('plan' in (await db.planRebuild()) || typeof (await db.planRebuild()) === 'object')
    assert.equal(typeof (await db.refreshProfiles('airports')), 'object')
  }))

test('a token acts for its owner until it is revoked', () =>
  withFolder(async (db) => {
    await publish(db)
    const [token, secret] = await db.createToken(ADA, 'tool', { lifetimeMs: 3_600_000 })
    assert.equal(Math.round((token.expires_at - token.created_at) / 1000), 3600)
    assert.equal((await db.createToken(ADA, 'for ever', { lifetimeMs: null }))[0].expires_at, null)
    const [usual] = await db.createToken(ADA, 'usual')
    assert.equal(Math.round((usual.expires_at - usual.created_at) / 86_400_000), 90)
    assert.deepEqual(await (await db.asToken(secret)).tables(), ['airports'])
    await db.revokeToken(token.id)
    await rejects(db.asToken(secret), 'Denied')
    await rejects(db.asToken('nonsense'), 'Denied')
    assert.equal((await db.tokens()).length, 3)
    assert.ok(!JSON.stringify(await db.tokens()).includes(secret))
  }))
