// SPDX-License-Identifier: BSD-3-Clause
// Runs cases of the client libraries for tests/integration/test_node_clients.py; NODE_PATH says where the libraries are.
//
//   node run.js       jobs on standard input, a line of JSON each: {"file": "ioredis", "name": "pipeline", "host": ..., "port": ...,
//                     "tls": null or {"ca": PATH, "cert": PATH, "key": PATH}, "limit": SECONDS}
//
// A job is a function that the file exports; it gets a Case. Answers are lines of JSON: {"done": null}, {"done": "what went wrong"},
// or {"ask": WORD} while a case runs, which wants a line back when it has been done.
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
let answered = null;

class Case {
    constructor(job) {
        Object.assign(this, { host: job.host, port: job.port, name: job.name, limit: job.limit * 1000, cleanups: [] });
        // The certificate is checked against the address, as the names in it allow.
        this.tls = job.tls && Object.fromEntries(Object.entries(job.tls).map(([name, file]) => [name, fs.readFileSync(file)]));
    }
    // Has the test do something to the server, such as restart it.
    ask(word) {
        return new Promise((resolve) => {
            answered = resolve;
            say({ ask: word });
        });
    }
    // What a case opened is closed after it, last first, however it ended.
    later(cleanup) { this.cleanups.push(cleanup); }
    async until(predicate, what) {
        const end = Date.now() + this.limit;
        for (;;) {
            const value = await predicate();
            if (value) return value;
            if (Date.now() > end) throw new Error('timed out waiting for ' + what);
            await new Promise((resolve) => setTimeout(resolve, 5));
        }
    }
    sleep(ms) { return new Promise((resolve) => setTimeout(resolve, ms)); }
}

async function run(job) {
    const one = new Case(job);
    let error = null;
    try {
        await require(path.join(__dirname, job.file + '.js'))[job.name](one);
    } catch (e) {
        error = String(e && e.stack || e);
    }
    for (const cleanup of one.cleanups.reverse()) {
        try {
            await cleanup();
        } catch (e) {
            error = error || 'closing: ' + String(e && e.stack || e);
        }
    }
    say({ done: error });
}

process.on('unhandledRejection', (e) => {
    say({ done: 'unhandled rejection: ' + String(e && e.stack || e) });
    process.exit(1);
});
readline.createInterface({ input: process.stdin }).on('line', (line) => {
    if (answered) {
        const resolve = answered;
        answered = null;
        resolve(JSON.parse(line));
    } else {
        run(JSON.parse(line));
    }
}).on('close', () => process.exit(0));
