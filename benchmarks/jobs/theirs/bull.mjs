// BullMQ, told by one JSON object what to do; answers in lines: ready, began, done. See ../peers.py.
import { Queue, Worker } from "bullmq";
import pg from "pg";

const told = JSON.parse(process.argv[2]);
const connection = { host: "127.0.0.1", port: told.port, maxRetriesPerRequest: null };
const say = (word, more = {}) => process.stdout.write(JSON.stringify({ word, ...more }) + "\n");
const told_to_end = new Promise((resolve) => process.stdin.on("end", resolve).resume());
const now = () => performance.timeOrigin + performance.now();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const text = "x".repeat(told.bytes ?? 0);
const job = (n) => ({
  name: told.kind,
  data: { n, at: now(), text },
  opts: {
    attempts: 5, removeOnComplete: { count: 1000 },
    ...(told.priorities ? { priority: 1 + (n % told.priorities) } : {}),
  },
});

async function add() {
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  await queue.getJobCounts();
  say("began");
  if (told.rate) {
    const began = performance.now(), running = [];
    for (let n = 0; n < told.count; n++) {
      const wait = began + (n * 1000) / told.rate - performance.now();
      if (wait > 0) await sleep(wait);
      const { name, data, opts } = job(n);
      running.push(queue.add(name, data, opts));
    }
    await Promise.all(running);
  } else if (told.chunk === 1) {
    for (let n = 0; n < told.count; n++) {
      const { name, data, opts } = job(n);
      await queue.add(name, data, opts);
    }
  } else {
    for (let first = 0; first < told.count; first += told.chunk) {
      const size = Math.min(told.chunk, told.count - first);
      await queue.addBulk(Array.from({ length: size }, (_, i) => job(first + i)));
    }
  }
  say("done");
}

async function work() {
  const pool = told.kind === "row" ? new pg.Pool({ connectionString: told.dsn, max: 50 }) : undefined;
  const marks = [], latencies = told.latency ? [] : null, every = Math.ceil(told.count / 5);
  let calls = 0, ended = 0, called, completed;
  const all_called = new Promise((resolve) => (called = resolve));
  const all_ended = new Promise((resolve) => (completed = resolve));
  const count = (at) => {
    if (latencies) latencies.push(now() - at);
    if (calls === 0) say("began");
    calls += 1;
    if (calls % every === 0) marks.push(performance.now() / 1000);
    if (calls === told.count) called();
  };
  const functions = {
    noop: async (job) => count(job.data.at),
    row: async (job) => {
      count();
      await pool.query("insert into bench_row (n, text) values ($1, $2)", [job.data.n, job.data.text]);
    },
    io: async () => { count(); await sleep(10); },
    flaky: async (job) => {
      if (job.data.n % 10 === 0 && job.attemptsMade === 0) throw new Error("fails once");
      count();
    },
  };
  const worker = new Worker("bench", functions[told.kind], { connection, concurrency: 50 });
  worker.on("completed", () => { if (++ended === told.count) completed(); });
  worker.on("error", (error) => console.error(String(error)));
  await worker.waitUntilReady();
  say("ready");
  await all_called;
  if (!told.leave) await all_ended;
  say("done", { marks, latencies });
}

async function idle() {
  const workers = Array.from({ length: 8 }, (_, n) =>
    new Worker(`bench-${n}`, async () => {}, { connection, concurrency: 10 }));
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  say("ready");
}

await { add, work, idle }[told.do]();
await told_to_end;
process.exit(0);
