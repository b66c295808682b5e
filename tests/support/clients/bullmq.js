// SPDX-License-Identifier: BSD-3-Clause
// bullmq: queues of jobs, whose every step is a Lua script of the library, over ioredis.
'use strict';
const assert = require('assert');
const { FlowProducer, Queue, QueueEvents, UnrecoverableError, Worker } = require('bullmq');
const { Redis } = require('ioredis');

let number = 0;

// A queue of its own for each case, with what goes with it.
function setUp(one) {
    const name = one.name + ++number;
    const options = { connection: { host: one.host, port: one.port, tls: one.tls || undefined, maxRetriesPerRequest: null } };
    const keep = (made) => {
        made.on('error', () => {});
        one.later(() => made.close());
        return made;
    };
    return {
        name,
        connection: options.connection,
        queue: keep(new Queue(name, options)),
        worker: (work, more, of) => keep(new Worker(of || name, work, { ...options, drainDelay: 1, ...more })),
        flow: () => keep(new FlowProducer(options)),
        events: async () => {
            const events = keep(new QueueEvents(name, { ...options, lastEventId: '0-0' }));
            await events.waitUntilReady();
            return events;
        },
    };
}

exports.jobs = async (one) => {
    const { queue, worker, events } = setUp(one);
    const told = await events(), seen = [];
    for (const event of ['added', 'waiting', 'active', 'progress', 'completed', 'failed', 'drained']) told.on(event, () => seen.push(event));
    let running = 0, most = 0;
    const jobs = await queue.addBulk(Array.from({ length: 40 }, (_, i) => ({ name: 'square', data: { i } })));
    worker(async (job) => {
        most = Math.max(most, ++running);
        await job.updateProgress(50);
        await job.log('half of ' + job.data.i);
        await one.sleep(2);
        running--;
        if (job.data.i === 13) throw new Error('unlucky');
        return job.data.i ** 2;
    }, { concurrency: 8 });
    const results = await Promise.allSettled(jobs.map((job) => job.waitUntilFinished(told, one.limit)));
    results.forEach((result, i) => i === 13 ? assert.match(String(result.reason), /unlucky/) : assert.equal(result.value, i * i));
    assert.ok(most > 1 && most <= 8, String(most));
    await one.until(() => seen.includes('drained'), 'the queue\'s end');
    const count = (event) => seen.filter((e) => e === event).length;
    assert.deepEqual([count('added'), count('active'), count('progress'), count('completed'), count('failed')], [40, 40, 40, 39, 1]);
    assert.deepEqual(await queue.getJobCounts('completed', 'failed', 'waiting', 'active'), { completed: 39, failed: 1, waiting: 0, active: 0 });
    assert.deepEqual((await queue.getJobLogs(jobs[3].id)).logs, ['half of 3']);
    assert.equal((await queue.getFailed())[0].failedReason, 'unlucky');
};

exports.delayed = async (one) => {
    const { queue, worker } = setUp(one);
    const done = [], start = Date.now();
    await queue.addBulk([240, 80, 160].map((delay) => ({ name: 'later', data: delay, opts: { delay } })));
    assert.equal(await queue.getDelayedCount(), 3); // nobody is there yet who would see them due
    worker(async (job) => { done.push([job.data, Date.now() - start]); });
    await one.until(() => done.length === 3, 'the delayed jobs');
    assert.deepEqual(done.map((d) => d[0]), [80, 160, 240]);
    for (const [delay, after] of done) assert.ok(after >= delay - 2, `${delay} after ${after}`);
    const job = await queue.add('much later', 'x', { delay: 1000000 });
    assert.equal(await job.getState(), 'delayed');
    await job.promote();
    await one.until(() => done.length === 4, 'the promoted job');
    await one.until(() => job.isCompleted(), 'its end');
};

exports.repeated = async (one) => {
    const { queue, worker } = setUp(one);
    const every = [], cron = [];
    worker(async (job) => { (job.name === 'every' ? every : cron).push(Number(job.id.split(':').pop())); }); // when it was due
    await queue.upsertJobScheduler('tick', { every: 60 }, { name: 'every', data: {} });
    await queue.upsertJobScheduler('clock', { pattern: '* * * * * *' }, { name: 'cron', data: {} });
    assert.equal(await queue.getJobSchedulersCount(), 2);
    await one.until(() => every.length >= 4 && cron.length >= 1, 'repetitions');
    assert.equal(await queue.removeJobScheduler('tick'), true);
    assert.equal(await queue.removeJobScheduler('clock'), true);
    assert.equal(await queue.getJobSchedulersCount(), 0);
    for (let i = 1; i < every.length; i++) assert.ok(every[i] > every[i - 1] && (every[i] - every[i - 1]) % 60 === 0, String(every));
    assert.ok(cron.every((due) => due % 1000 === 0), String(cron));
};

exports.limited = async (one) => {
    const { queue, worker } = setUp(one), done = [], start = Date.now();
    await queue.addBulk(Array.from({ length: 9 }, (_, i) => ({ name: 'n', data: i })));
    worker(async (job) => { done.push([job.data, Date.now() - start]); }, { concurrency: 5, limiter: { max: 3, duration: 150 } });
    await one.until(() => done.length === 9, 'the limited jobs');
    assert.deepEqual(done.map((d) => d[0]).sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    done.forEach(([, after], i) => assert.ok(after >= 150 * Math.floor(i / 3) - 2, `${i} after ${after}`));
};

exports.retried = async (one) => {
    const { queue, worker, events } = setUp(one);
    const told = await events(), tries = {};
    worker(async (job) => {
        (tries[job.name] = tries[job.name] || []).push(Date.now());
        if (job.name === 'hopeless') throw new UnrecoverableError('never');
        if (job.name === 'always' || job.attemptsMade < 2) throw new Error('not yet');
        return 'at last';
    });
    const stubborn = await queue.add('stubborn', {}, { attempts: 5, backoff: { type: 'exponential', delay: 30 } });
    assert.equal(await stubborn.waitUntilFinished(told, one.limit), 'at last');
    assert.equal(tries.stubborn.length, 3);
    assert.ok(tries.stubborn[2] - tries.stubborn[0] >= 85, String(tries.stubborn)); // 30 and 60
    const always = await queue.add('always', {}, { attempts: 2, backoff: { type: 'fixed', delay: 20 } });
    await assert.rejects(always.waitUntilFinished(told, one.limit), /not yet/);
    assert.equal(tries.always.length, 2);
    const hopeless = await queue.add('hopeless', {}, { attempts: 9 });
    await assert.rejects(hopeless.waitUntilFinished(told, one.limit), /never/);
    assert.equal(tries.hopeless.length, 1);
    assert.equal(await queue.getFailedCount(), 2);
    await (await queue.getJob(hopeless.id)).retry();
    await one.until(async () => tries.hopeless.length === 2 && await queue.getFailedCount() === 2, 'the retry');
};

exports.priorities = async (one) => {
    const { queue, worker } = setUp(one), done = [];
    await queue.pause();
    assert.equal(await queue.isPaused(), true);
    await queue.add('n', 'low', { priority: 10 });
    await queue.add('n', 'high', { priority: 1 });
    await queue.add('n', 'none');
    await queue.add('n', 'middle', { priority: 5 });
    await queue.add('n', 'middle too', { priority: 5 });
    await queue.add('n', 'last in', { lifo: true });
    await queue.add('n', 'same', { jobId: 'once', priority: 20 });
    await queue.add('n', 'not added', { jobId: 'once' });
    worker(async (job) => { done.push(job.data); });
    await one.sleep(50);
    assert.deepEqual(done, []);
    await queue.resume();
    await one.until(() => done.length === 7, 'all jobs');
    assert.deepEqual(done, ['last in', 'none', 'high', 'middle', 'middle too', 'low', 'same']);
};

exports.flows = async (one) => {
    const { name, queue, worker, flow, events } = setUp(one);
    const told = await events(), children = name + '-children';
    worker(async (job) => job.data.n * 10, { concurrency: 3 }, children);
    worker(async (job) => {
        const values = Object.values(await job.getChildrenValues());
        return values.reduce((a, b) => a + b, 0);
    });
    const tree = await flow().add({ name: 'sum', queueName: name, data: {}, children: [1, 2, 3].map((n) => (
        { name: 'part', queueName: children, data: { n } })).concat(
        [{ name: 'sum', queueName: name, data: {}, children: [{ name: 'part', queueName: children, data: { n: 4 } }] }]) });
    assert.equal(await tree.job.waitUntilFinished(told, one.limit), 100);
    assert.equal((await tree.job.getDependenciesCount()).processed, 4);
    assert.equal(await queue.getCompletedCount(), 2);
};

exports.obliterated = async (one) => {
    const { name, queue, connection } = setUp(one);
    await queue.addBulk(Array.from({ length: 1200 }, (_, i) => ({ name: 'n', data: i, opts: { delay: i % 3 ? 0 : 100000, priority: i % 5 } })));
    const jobs = await queue.getJobs(['waiting', 'delayed', 'prioritized'], 0, -1);
    assert.equal(jobs.length, 1200);
    await queue.remove(jobs[0].id);
    assert.equal((await queue.clean(0, 100, 'delayed')).length, 100);
    await queue.drain();
    assert.equal(await queue.getWaitingCount(), 0);
    await queue.obliterate({ force: true });
    const client = new Redis(connection);
    one.later(() => client.disconnect());
    assert.deepEqual(await client.keys(`bull:${name}:*`), []);
};

// A worker that stops telling it is alive: another one gets its job.
exports.stalled = async (one) => {
    const { queue, worker } = setUp(one), done = [];
    await queue.add('n', 'x');
    const stuck = worker(() => new Promise(() => {}), { skipLockRenewal: true, lockDuration: 100, skipStalledCheck: true });
    one.later(() => stuck.close(true));
    await one.until(async () => await queue.getActiveCount() === 1, 'the first worker');
    worker(async (job) => { done.push(job.attemptsStarted); }, { stalledInterval: 60, maxStalledCount: 3 });
    await one.until(() => done.length === 1, 'the second worker');
    assert.deepEqual(done, [2]);
};
