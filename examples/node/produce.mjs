// Write attendance marks to SkillCore from Node.
//
//   npm ci && node produce.mjs --kafka 127.0.0.1:9092 --tenant oak ../marks.jsonl

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { Kafka, logLevel, Partitioners } from "kafkajs";

import { EVENTS } from "../../schemas/events.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { kafka: { type: "string", default: "127.0.0.1:9092" }, tenant: { type: "string" } },
});
const [file] = positionals;
if (!options.tenant || !file) {
  console.error("usage: node produce.mjs [--kafka HOST:PORT] --tenant TENANT FILE");
  process.exit(64);
}

const { topic, type, key } = EVENTS.AttendanceMarked;
const marks = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));

const kafka = new Kafka({ brokers: options.kafka.split(","), clientId: "sis-example", logLevel: logLevel.ERROR });
const producer = kafka.producer({
  idempotent: true,
  createPartitioner: Partitioners.DefaultPartitioner, // as Java and SkillCore: one student, one partition, one order
});

await producer.connect();
try {
  await producer.send({
    topic,
    acks: -1,
    messages: marks.map((mark) => ({
      key: mark[key],
      value: JSON.stringify(mark),
      headers: {
        ce_specversion: "1.0",
        // The row and its state: sent again it is the same event, changed and sent it is another one.
        ce_id: `${mark.attendance_id}@${mark.marked_at}`,
        ce_type: type,
        ce_source: "/sis/example",
        ce_time: mark.marked_at,
        ce_tenantid: options.tenant,
        "content-type": "application/json",
      },
    })),
  });
} finally {
  await producer.disconnect();
}
