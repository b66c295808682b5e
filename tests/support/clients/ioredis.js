// SPDX-License-Identifier: BSD-3-Clause
// ioredis: what applications do with it.
'use strict';
const assert = require('assert');
const { Redis } = require('ioredis');

function connect(one, options) {
    const client = new Redis({ host: one.host, port: one.port, tls: one.tls || undefined, ...options });
    client.on('error', () => {}); // commands tell
    one.later(() => client.disconnect());
    return client;
}

exports.commands = async (one) => {
    const c = connect(one);
    assert.equal(await c.set('k', 'grüße', 'PX', 100000, 'NX'), 'OK');
    assert.equal(await c.set('k', 'x', 'NX'), null);
    assert.equal(await c.get('k'), 'grüße');
    assert.deepEqual(await c.getBuffer('k'), Buffer.from('grüße'));
    assert.equal(await c.hset('h', { a: 1, b: 'two' }, 'c', 3).catch(() => 'refused'), 'refused');
    assert.equal(await c.hset('h', { a: 1, b: 'two' }), 2);
    assert.deepEqual(await c.hgetall('h'), { a: '1', b: 'two' });
    assert.equal(await c.zadd('z', 1, 'one', 2, 'two', 3, 'three'), 3);
    assert.deepEqual(await c.zrange('z', 0, -1, 'REV', 'WITHSCORES'), ['three', '3', 'two', '2', 'one', '1']);
    assert.deepEqual(await c.zrangebyscore('z', '(1', '+inf', 'LIMIT', 0, 1), ['two']);
    assert.equal(await c.rpush('l', 1, 2, 3), 3);
    assert.deepEqual(await c.lrange('l', 0, -1), ['1', '2', '3']);
    assert.equal(await c.sadd('s', ['a', 'b', 'c']), 3);
    assert.deepEqual((await c.smembers('s')).sort(), ['a', 'b', 'c']);
    await assert.rejects(c.incr('h'), /^ReplyError: WRONGTYPE Operation against a key holding the wrong kind of value/);
    const big = Buffer.alloc(3000000, 'kettle');
    await c.set('big', big);
    assert.ok(big.equals(await c.getBuffer('big')));
};

exports.pipeline = async (one) => {
    const c = connect(one);
    const pipeline = c.pipeline();
    for (let i = 0; i < 2000; i++) pipeline.set('p' + i, i).get('p' + i);
    const replies = await pipeline.lpush('p0', 'x').exec();
    for (let i = 0; i < 2000; i++) assert.deepEqual(replies[2 * i + 1], [null, String(i)]);
    assert.match(replies[4000][0].message, /^WRONGTYPE/);
    const auto = connect(one, { enableAutoPipelining: true });
    const values = await Promise.all(Array.from({ length: 500 }, (_, i) => auto.get('p' + i)));
    values.forEach((value, i) => assert.equal(value, String(i)));
    const seen = new Set();
    for await (const keys of c.scanStream({ match: 'p1*', count: 100 })) keys.forEach((key) => seen.add(key));
    assert.equal(seen.size, 1111);
};

exports.transaction = async (one) => {
    const c = connect(one), other = connect(one);
    assert.deepEqual(await c.multi().set('a', 1).incr('a').get('a').exec(), [[null, 'OK'], [null, 2], [null, '2']]);
    await c.watch('a');
    await other.set('a', 10);
    assert.equal(await c.multi().set('a', 20).exec(), null);
    assert.equal(await c.get('a'), '10');
    await c.multi({ pipeline: false });
    assert.equal(await c.incr('a'), 'QUEUED');
    assert.deepEqual(await c.exec(), [[null, 11]]);
    await assert.rejects(c.multi().set('a').incr('a').exec(), /EXECABORT/);
    const failed = await c.multi().set('s', 'text').incr('s').exec();
    assert.match(failed[1][0].message, /not an integer/);
};

exports.scripts = async (one) => {
    const c = connect(one, { keyPrefix: 'pre:' });
    c.defineCommand('addall', { numberOfKeys: 2, lua: `
        local sum = 0
        for _, by in ipairs(ARGV) do sum = sum + by end
        redis.call('INCRBY', KEYS[1], sum)
        redis.call('RPUSH', KEYS[2], unpack(ARGV))
        return { redis.call('GET', KEYS[1]), redis.call('LLEN', KEYS[2]), cjson.encode({ sum = sum }) }` });
    assert.deepEqual(await c.addall('n', 'l', 1, 2, 3), ['6', 3, '{"sum":6}']);
    await c.script('FLUSH');
    assert.deepEqual(await c.addall('n', 'l', 4), ['10', 4, '{"sum":4}']);
    assert.deepEqual(await c.pipeline().addall('n', 'l', 1).get('n').exec(), [[null, ['11', 5, '{"sum":1}']], [null, '11']]);
    await assert.rejects(c.eval('return redis.call("NOSUCH")', 0), /Unknown Redis command called from script/);
    await assert.rejects(c.eval('return redis.error_reply("MINE went wrong")', 0), /MINE went wrong/);
    const sha = await c.script('LOAD', 'return {KEYS[1], ARGV[1], 3.9, false, {1, {2}}}');
    assert.deepEqual(await c.evalsha(sha, 1, 'k', 'v'), ['pre:k', 'v', 3, null, [1, [2]]]);
    assert.deepEqual(await c.script('EXISTS', sha, 'f'.repeat(40)), [1, 0]);
};

exports.pubsub = async (one) => {
    const sub = connect(one), c = connect(one), got = [];
    sub.on('message', (channel, message) => got.push([channel, message]));
    sub.on('pmessage', (pattern, channel, message) => got.push([pattern, channel, message]));
    assert.equal(await sub.subscribe('a', 'b'), 2);
    assert.equal(await sub.psubscribe('n?ws.*'), 3);
    assert.deepEqual(await sub.ping(), ['pong', '']);
    assert.equal(await c.publish('a', 'one'), 1);
    assert.equal(await c.publish('news.x', 'two'), 1);
    assert.equal(await c.publish('nobody', 'x'), 0);
    await one.until(() => got.length === 2, 'messages');
    assert.deepEqual(got, [['a', 'one'], ['n?ws.*', 'news.x', 'two']]);
    assert.equal(await sub.unsubscribe('a'), 2);
    assert.deepEqual((await c.pubsub('CHANNELS')), ['b']);
    // Subscriptions come back after the connection was lost.
    const id = (await c.client('LIST')).split('\n').find((line) => / sub=1 /.test(line)).match(/id=(\d+)/)[1];
    assert.equal(await c.client('KILL', 'ID', id), 1);
    await one.until(async () => await c.publish('b', 'again') === 1, 'the subscription');
    await one.until(() => got.length >= 3, 'the message');
    assert.deepEqual(got[2], ['b', 'again']);
    assert.equal(await sub.unsubscribe('b'), 1);
    assert.equal(await sub.punsubscribe('n?ws.*'), 0);
    assert.equal(await sub.get('none'), null);
};

exports.streams = async (one) => {
    const c = connect(one), reader = connect(one), worker = connect(one);
    let waiting = reader.xread('BLOCK', 0, 'STREAMS', 's', '$');
    await one.until(async () => / cmd=xread/.test(await c.client('LIST')) && /blocked_clients:1/.test(await c.info('clients')), 'the reader');
    const first = await c.xadd('s', '*', 'n', 1);
    assert.deepEqual(await waiting, [['s', [[first, ['n', '1']]]]]);
    await c.xgroup('CREATE', 's', 'g', '0');
    assert.deepEqual(await worker.xreadgroup('GROUP', 'g', 'w1', 'COUNT', 10, 'STREAMS', 's', '>'), [['s', [[first, ['n', '1']]]]]);
    waiting = worker.xreadgroup('GROUP', 'g', 'w1', 'BLOCK', 10000, 'STREAMS', 's', '>');
    await one.until(async () => /blocked_clients:1/.test(await c.info('clients')), 'the worker');
    const second = await c.xadd('s', 'MAXLEN', '~', 1000, '*', 'n', 2);
    assert.deepEqual(await waiting, [['s', [[second, ['n', '2']]]]]);
    assert.deepEqual((await c.xpending('s', 'g')), [2, first, second, [['w1', '2']]]);
    assert.equal(await worker.xack('s', 'g', first), 1);
    assert.deepEqual(await c.xautoclaim('s', 'g', 'w2', 0, '0', 'COUNT', 5), ['0-0', [[second, ['n', '2']]], []]);
    assert.equal(await worker.xreadgroup('GROUP', 'g', 'w1', 'BLOCK', 20, 'STREAMS', 's', '>'), null);
    const popped = worker.blpop('list', 'list2', 0);
    await c.rpush('list2', 'x');
    assert.deepEqual(await popped, ['list2', 'x']);
};

exports.restart = async (one) => {
    const c = connect(one, { retryStrategy: () => 30, maxRetriesPerRequest: null });
    const blocked = connect(one, { retryStrategy: () => 30, maxRetriesPerRequest: null });
    await c.set('k', 1);
    const waiting = blocked.blpop('later', 0); // sent again on the next connection
    await one.ask('restart');
    assert.equal(await c.set('k', 2), 'OK');
    assert.equal(await c.rpush('later', 'x'), 1);
    assert.deepEqual(await waiting, ['later', 'x']);
};
