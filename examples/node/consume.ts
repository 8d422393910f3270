// Read what SkillCore publishes: students who are absent without an excuse, one JSON line each.
//
//   npm ci && npm run build && node consume.js --kafka 127.0.0.1:9092 --tenant oak [--count 1]

import { parseArgs } from "node:util";

import kafkajs, { type KafkaMessage } from "kafkajs";

import { type Envelope, EVENTS } from "../../schemas/events.js";

const { Kafka, logLevel } = kafkajs; // a CommonJS package

const { values: options } = parseArgs({
  options: {
    kafka: { type: "string", default: "127.0.0.1:9092" },
    tenant: { type: "string" },
    group: { type: "string", default: "absence-example" },
    count: { type: "string", default: "Infinity" },
  },
});

/** The event in a record, if it is of this tenant and a StudentAbsent: a topic carries all events of its domain. */
function studentAbsent(message: KafkaMessage): Envelope<"StudentAbsent"> | undefined {
  const attribute = (name: string): string => message.headers?.[`ce_${name}`]?.toString() ?? "";
  if (attribute("type") !== EVENTS.StudentAbsent.type || attribute("tenantid") !== options.tenant) {
    return undefined;
  }
  return {
    specversion: "1.0",
    type: EVENTS.StudentAbsent.type,
    id: attribute("id"),
    source: attribute("source"),
    time: attribute("time"),
    tenantid: attribute("tenantid"),
    causationid: attribute("causationid"),
    data: JSON.parse(message.value?.toString() ?? "null"),
  };
}

const kafka = new Kafka({ brokers: options.kafka.split(","), clientId: "absence-example", logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: options.group });
let left = Number(options.count);

consumer.on(consumer.events.CRASH, ({ payload }) => {
  console.error(payload.error.message); // kafkajs has told the rest
  process.exitCode = 1;
});

await consumer.connect();
await consumer.subscribe({ topic: EVENTS.StudentAbsent.topic, fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    const event = studentAbsent(message);
    if (event === undefined || left === 0) {
      return;
    }
    // At least once: remember event.id where the effect is kept, or make the effect repeatable.
    const { student_id, date, consecutive_days } = event.data;
    console.log(JSON.stringify({ id: event.id, because_of: event.causationid, student_id, date, consecutive_days }));
    left -= 1;
    if (left === 0) {
      setImmediate(() => void consumer.disconnect());
    }
  },
});
