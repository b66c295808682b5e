// SPDX-License-Identifier: BSD-3-Clause
// The npm package redis: what applications do with it, over RESP2 and RESP3.
'use strict';
const assert = require('assert');
const redis = require('redis');

function options(one, more) {
    const { socket, ...rest } = more || {};
    return {
        socket: { host: one.host, port: one.port, ...(one.tls ? { tls: true, ...one.tls } : {}), reconnectStrategy: () => 30, ...socket },
        ...rest,
    };
}

async function connect(one, more) {
    const client = redis.createClient(options(one, more));
    client.on('error', () => {}); // commands tell
    one.later(() => client.isOpen && client.destroy());
    await client.connect();
    return client;
}

// A case over each protocol.
const both = (work) => async (one) => {
    for (const RESP of [2, 3]) {
        const c = await connect(one, { RESP });
        await c.flushAll();
        await work(one, c, RESP);
    }
};

exports.commands = both(async (one, c) => {
    assert.equal(await c.set('k', 'grüße', { EX: 100, NX: true }), 'OK');
    assert.equal(await c.set('k', 'x', { NX: true }), null);
    assert.equal(await c.get('k'), 'grüße');
    assert.equal(await c.hSet('h', { a: '1', b: 'two' }), 2);
    assert.deepEqual({ ...(await c.hGetAll('h')) }, { a: '1', b: 'two' });
    assert.equal(await c.zAdd('z', [{ score: 1.5, value: 'one' }, { score: 2, value: 'two' }]), 2);
    assert.deepEqual((await c.zRangeWithScores('z', 0, -1)).map((e) => ({ ...e })), [{ value: 'one', score: 1.5 }, { value: 'two', score: 2 }]);
    assert.equal(await c.zScore('z', 'one'), 1.5);
    assert.equal(await c.sAdd('s', ['a', 'b']), 2);
    assert.deepEqual([...(await c.sMembers('s'))].sort(), ['a', 'b']);
    assert.equal(await c.geoAdd('g', { longitude: 13.361389, latitude: 38.115556, member: 'Palermo' }), 1);
    assert.equal(Math.round((await c.geoPos('g', 'Palermo'))[0].latitude), 38);
    await assert.rejects(c.incr('h'), /^Error: WRONGTYPE/);
    assert.deepEqual(Object.keys(await c.configGet('maxmemory')), ['maxmemory']);
    const big = 'kettle'.repeat(200000);
    await c.set('big', big);
    assert.equal(await c.get('big'), big);
    const all = await Promise.all(Array.from({ length: 1000 }, (_, i) => c.incrBy('n', i)));
    assert.equal(all[999], 499500);
    const seen = [];
    for await (const keys of c.scanIterator({ MATCH: '?' })) seen.push(...keys);
    assert.deepEqual(seen.sort(), ['g', 'h', 'k', 'n', 's', 'z']);
    assert.deepEqual([...(await c.hScan('h', '0')).entries].map((e) => e.field).sort(), ['a', 'b']);
});

exports.multi = both(async (one, c) => {
    assert.deepEqual(await c.multi().set('a', '1').incr('a').get('a').exec(), ['OK', 2, '2']);
    const other = await connect(one);
    await c.watch('a');
    await other.set('a', '10');
    await assert.rejects(c.multi().set('a', '20').exec(), redis.WatchError);
    assert.equal(await c.get('a'), '10');
    await assert.rejects(c.multi().set('s', 'text').incr('s').exec(), redis.MultiErrorReply);
    assert.deepEqual(await c.multi().get('a').get('s').execAsPipeline(), ['10', 'text']);
});

exports.pool = both(async (one, c, RESP) => {
    const pool = redis.createClientPool(options(one, { RESP }), { minimum: 2, maximum: 6 });
    pool.on('error', () => {});
    await pool.connect();
    one.later(() => pool.destroy());
    // Each takes a client for itself, so WATCH of one does not disturb the others; a lost race is tried again.
    const raise = () => pool.execute(async (client) => {
        await client.watch('n');
        const n = Number(await client.get('n'));
        return client.multi().set('n', String(n + 1)).exec();
    }).catch((e) => {
        assert.ok(e instanceof redis.WatchError, String(e));
        return raise();
    });
    await Promise.all(Array.from({ length: 20 }, raise));
    assert.equal(await c.get('n'), '20');
    const popped = Promise.all([pool.blPop('l', 5), pool.blPop('l', 5)]);
    await c.rPush('l', ['x', 'y']);
    assert.deepEqual((await popped).map((e) => e.element).sort(), ['x', 'y']);
});

exports.pubsub = both(async (one, c, RESP) => {
    const sub = await connect(one, { RESP }), got = [];
    const listen = (message, channel) => got.push([channel, message]);
    await sub.subscribe('a', listen);
    await sub.pSubscribe('n?ws.*', listen);
    await sub.sSubscribe('shard', listen);
    if (RESP === 3) assert.equal(await sub.set('k', 'v'), 'OK'); // commands between the pushes
    assert.equal(await c.publish('a', 'one'), 1);
    assert.equal(await c.publish('news.x', 'two'), 1);
    assert.equal(await c.sPublish('shard', 'three'), 1);
    await one.until(() => got.length === 3, 'messages');
    assert.deepEqual(got, [['a', 'one'], ['news.x', 'two'], ['shard', 'three']]);
    assert.deepEqual(await c.pubSubChannels(), ['a']);
    assert.equal(await c.pubSubNumPat(), 1);
    await sub.unsubscribe('a');
    await sub.pUnsubscribe();
    await sub.sUnsubscribe('shard');
    assert.equal(await c.publish('a', 'x'), 0);
    assert.equal(await sub.get('none'), null);
    sub.destroy();
});

exports.keyspace_events = async (one) => {
    const c = await connect(one), sub = await connect(one, { RESP: 3 }), got = [];
    await c.configSet('notify-keyspace-events', 'KEA');
    one.later(() => c.configSet('notify-keyspace-events', ''));
    await sub.pSubscribe('__keyevent@0__:*', (key, channel) => got.push(channel.split(':')[1] + ' ' + key));
    await c.set('k', 'v', { PX: 20 });
    await one.until(() => got.includes('expired k'), 'the expiry');
    assert.deepEqual(got, ['set k', 'expire k', 'expired k']);
};

// Over RESP2: the library has no replies of its own for them over RESP3 yet.
exports.streams = async (one) => {
    const c = await connect(one), reader = await connect(one);
    const waiting = reader.xRead({ key: 's', id: '$' }, { BLOCK: 10000 });
    await one.until(async () => /blocked_clients:1/.test(await c.info('clients')), 'the reader');
    const first = await c.xAdd('s', '*', { n: '1', m: 'x' });
    const read = await waiting;
    assert.equal(read[0].name, 's');
    assert.equal(read[0].messages[0].id, first);
    assert.deepEqual({ ...read[0].messages[0].message }, { n: '1', m: 'x' });
    await c.xGroupCreate('s', 'g', '0', { MKSTREAM: true });
    const given = await reader.xReadGroup('g', 'w1', { key: 's', id: '>' }, { COUNT: 5 });
    assert.equal(given[0].messages.length, 1);
    assert.equal((await c.xPending('s', 'g')).pending, 1);
    assert.equal((await c.xInfoGroups('s'))[0].pending, 1);
    assert.equal((await c.xInfoStream('s')).length, 1);
    assert.equal((await c.xAutoClaim('s', 'g', 'w2', 0, '0')).messages[0].id, first);
    assert.equal(await c.xAck('s', 'g', first), 1);
    assert.equal(await reader.xReadGroup('g', 'w1', { key: 's', id: '>' }, { BLOCK: 10 }), null);
};

exports.scripts = async (one) => {
    const scripts = { raise: redis.defineScript({
        NUMBER_OF_KEYS: 1, SCRIPT: 'return redis.call("INCRBY", KEYS[1], ARGV[1])',
        parseCommand: (parser, key, by) => { parser.pushKey(key); parser.push(String(by)); },
        transformReply: (reply) => reply * 2,
    }) };
    const c = await connect(one, { scripts });
    assert.equal(await c.raise('n', 5), 10);
    await c.scriptFlush();
    assert.equal(await c.raise('n', 5), 20);
    assert.deepEqual(await c.multi().raise('n', 1).get('n').exec(), [22, '11']);
    assert.deepEqual(await c.eval('return {KEYS[1], ARGV[1], 1, {}}', { keys: ['k'], arguments: ['v'] }), ['k', 'v', 1, []]);
    assert.equal(await c.functionLoad(`#!lua name=mine
        redis.register_function{ function_name='twice', callback=function(keys, args) return 2 * redis.call('GET', keys[1]) end,
                                 flags={ 'no-writes' } }`, { REPLACE: true }), 'mine');
    one.later(() => c.functionFlush());
    assert.equal(await c.fCallRo('twice', { keys: ['n'], arguments: [] }), 22);
    assert.equal((await c.functionList())[0].library_name, 'mine');
};

// RESP3 with the server telling what changed: the client answers reads itself until then.
exports.client_side_cache = async (one) => {
    const clientSideCache = new redis.BasicClientSideCache({ ttl: 0, maxEntries: 0, evictPolicy: 'LRU' });
    const c = await connect(one, { RESP: 3, clientSideCache }), other = await connect(one);
    await other.set('k', '1');
    assert.equal(await c.get('k'), '1');
    assert.equal(await c.get('k'), '1');
    assert.equal(clientSideCache.stats().hitCount, 1);
    await other.set('k', '2');
    await one.until(async () => await c.get('k') === '2', 'the invalidation');
};

exports.restart = async (one) => {
    const c = await connect(one), sub = await connect(one), got = [];
    await sub.subscribe('a', (message) => got.push(message));
    await c.set('k', '1');
    await one.ask('restart');
    assert.equal(await c.set('k', '2'), 'OK');
    await one.until(async () => await c.publish('a', 'again') === 1, 'the subscription');
    await one.until(() => got.length >= 1, 'the message');
    assert.equal(got[0], 'again');
};
