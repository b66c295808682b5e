// SPDX-License-Identifier: BSD-3-Clause
// Node's tls as a peer of tests/integration/test_peers.py.
//
//   node tls-peer.js server SUITES CERT KEY [CERT KEY ...]   prints {"listening": PORT}, echoes until standard input ends
//   node tls-peer.js client CA                               jobs on standard input: PORT VERSION SUITE CONNECTIONS SEND EXPECT
//
// A job makes connections one after the other, each offering the session of the one before, sends the file SEND and wants exactly
// the bytes of the file EXPECT back. One line of JSON for each connection: {"error": ""}. Suites are OpenSSL names.
'use strict';
const fs = require('fs');
const readline = require('readline');
const tls = require('tls');

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');

function server(suites, ...files) {
    const options = { cert: [], key: [], ciphers: suites, dhparam: 'auto' };
    for (let i = 0; i < files.length; i += 2) {
        options.cert.push(fs.readFileSync(files[i]));
        options.key.push(fs.readFileSync(files[i + 1]));
    }
    const listener = tls.createServer(options, (socket) => {
        socket.setNoDelay(true);
        socket.on('error', () => socket.destroy());
        socket.pipe(socket);
    });
    listener.listen(0, '127.0.0.1', () => say({ listening: listener.address().port }));
    process.stdin.on('end', () => process.exit(0)).resume();
}

function connect(options, send, expect) {
    return new Promise((resolve) => {
        const parts = [];
        let length = 0, session = options.session, error = '';
        const socket = tls.connect(options, () => socket.write(send));
        socket.setNoDelay(true);
        socket.setTimeout(20000, () => socket.destroy(new Error('timed out')));
        socket.on('session', (value) => { session = value; });
        socket.on('data', (data) => {
            parts.push(data);
            length += data.length;
            if (length >= expect.length) socket.end();
        });
        socket.on('error', (e) => { error = String(e.message); });
        socket.on('close', () => {
            if (!error && !Buffer.concat(parts).equals(expect)) error = length + ' bytes came, not the ' + expect.length + ' that were expected';
            resolve({ error, session });
        });
    });
}

async function client(ca) {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [port, version, suite, connections, send, expect] = line.split(' ');
        const options = { host: '127.0.0.1', port: Number(port), servername: 'localhost', ca: fs.readFileSync(ca), ciphers: suite,
            minVersion: 'TLSv' + version, maxVersion: 'TLSv' + version };
        for (let i = 0; i < Number(connections); i++) {
            const done = await connect(options, fs.readFileSync(send), fs.readFileSync(expect));
            options.session = done.session;
            say({ error: done.error });
        }
    }
}

(process.argv[2] === 'server' ? server : client)(...process.argv.slice(3));
