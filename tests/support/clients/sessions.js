// SPDX-License-Identifier: BSD-3-Clause
// connect-redis below express-session: the store's calls, and sessions of an HTTP server.
'use strict';
const assert = require('assert');
const http = require('http');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const redis = require('redis');

async function connect(one) {
    const client = redis.createClient({ socket: { host: one.host, port: one.port, ...(one.tls ? { tls: true, ...one.tls } : {}) } });
    client.on('error', () => {});
    one.later(() => client.destroy());
    return client.connect();
}

exports.store = async (one) => {
    const client = await connect(one);
    const store = new RedisStore({ client, prefix: 'sess:', ttl: 1000 });
    const of = (n, cookie) => ({ n, cookie: { originalMaxAge: null, httpOnly: true, ...cookie } });
    for (let i = 0; i < 150; i++) await store.set('id' + i, of(i));
    await client.set('other', 'x');
    assert.equal((await store.get('id7')).n, 7);
    assert.equal(await store.get('missing'), null); // absent sessions are told from broken ones
    assert.equal(await store.length(), 150);
    assert.deepEqual((await store.ids()).sort(), Array.from({ length: 150 }, (_, i) => 'id' + i).sort());
    assert.deepEqual((await store.all()).map((s) => s.n).sort((a, b) => a - b), Array.from({ length: 150 }, (_, i) => i));
    // A cookie's own end is the key's.
    await store.set('short', of('s', { expires: new Date(Date.now() + 50000) }));
    let ttl = await client.ttl('sess:short');
    assert.ok(ttl > 40 && ttl <= 50, String(ttl));
    await store.touch('short', of('s', { expires: new Date(Date.now() + 90000) }));
    ttl = await client.ttl('sess:short');
    assert.ok(ttl > 80 && ttl <= 90, String(ttl));
    assert.ok(await client.ttl('sess:id7') > 900);
    await store.set('short', of('s', { expires: new Date(Date.now() - 1) })); // over already
    assert.equal(await store.get('short'), null);
    await store.destroy('id7');
    assert.equal(await store.get('id7'), null);
    assert.equal(await store.length(), 149);
    await store.clear();
    assert.equal(await store.length(), 0);
    assert.equal(await client.get('other'), 'x');
};

exports.http = async (one) => {
    const client = await connect(one);
    const handle = session({ store: new RedisStore({ client }), secret: 'pot', resave: false, saveUninitialized: false, cookie: { maxAge: 60000 } });
    const server = http.createServer((req, res) => handle(req, res, () => {
        const answer = () => res.end(JSON.stringify({ visits: req.session ? req.session.visits : null, id: req.sessionID }));
        if (req.url === '/leave') return req.session.destroy(answer);
        if (req.url === '/new') return req.session.regenerate(() => { req.session.visits = 100; answer(); });
        req.session.visits = (req.session.visits || 0) + 1;
        return answer();
    }));
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    one.later(() => { server.closeAllConnections(); server.close(); });
    let cookie = '';
    const visit = async (path) => {
        const reply = await fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: cookie ? { cookie } : {} });
        const set = reply.headers.get('set-cookie');
        if (set) cookie = set.split(';')[0];
        return reply.json();
    };
    for (let i = 1; i <= 5; i++) assert.equal((await visit('/')).visits, i);
    const { id } = await visit('/');
    assert.ok(await client.pTTL('sess:' + id) > 50000);
    assert.equal((await visit('/new')).visits, 100);
    assert.equal(await client.exists('sess:' + id), 0);
    assert.equal((await visit('/')).visits, 101);
    await visit('/leave');
    assert.deepEqual(await client.keys('sess:*'), []);
};
