// Plays scripts on a real BullMQ and says when each job began: the other half of test_beside_bullmq.py.
//
// stdin:  {"port": 6379, "scripts": {"<name>": [{"n": 1, "opts": {...}, "fails": 2, "fatal": false, "after": 0}, ...]}}
// stdout: {"<name>": [[n, milliseconds since its worker began], ...]}
import { Queue, UnrecoverableError, Worker } from "bullmq";

const input = JSON.parse(await new Response(process.stdin).text());
const connection = { host: "127.0.0.1", port: input.port, maxRetriesPerRequest: null };
const said = {};

async function play(name, steps) {
  const queue = new Queue(`${name}-${process.pid}`, { connection });
  const runs = (said[name] = []);
  const failed = {};
  for (const step of steps.filter((s) => !s.after)) {
    await queue.add("step", step, step.opts ?? {});
  }
  const began = performance.now();
  const worker = new Worker(queue.name, async (job) => {
    const { n, fails = 0, fatal = false } = job.data;
    runs.push([n, Math.round(performance.now() - began)]);
    failed[n] = (failed[n] ?? 0) + 1;
    if (fatal) throw new UnrecoverableError("fatal");
    if (failed[n] <= fails) throw new Error("fails");
  }, { connection, concurrency: 1 });
  for (const step of steps.filter((s) => s.after)) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + step.after - performance.now())));
    await queue.add("step", step, step.opts ?? {});
  }
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + input.milliseconds - performance.now())));
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

await Promise.all(Object.entries(input.scripts).map(([name, steps]) => play(name, steps)));
process.stdout.write(JSON.stringify(said));
process.exit(0);
