// A service in Node: kafkajs and its registry client as their manuals use them. The schema is the registry's, not a copy.
import kafkajs from "kafkajs";
import registries from "@kafkajs/confluent-schema-registry";

const { BOOTSTRAP, REGISTRY, TENANT, COUNT } = process.env;
const registry = new registries.SchemaRegistry({ host: REGISTRY });
const schema = await registry.getLatestSchemaId("events-value");
const kafka = new kafkajs.Kafka({ clientId: "shop", brokers: [BOOTSTRAP], logLevel: kafkajs.logLevel.ERROR });
const producer = kafka.producer({ idempotent: true, createPartitioner: kafkajs.Partitioners.DefaultPartitioner });

await producer.connect();
const messages = [];
for (let number = 1; number <= Number(COUNT); number++) {
  const event = {
    id: `node-${number}`,
    tenant: TENANT,
    type: "order.shipped",
    time: Date.now(),
    data: JSON.stringify({ order: number, note: "Grüße" }),
    source: "shop",
  };
  messages.push({ key: TENANT, value: await registry.encode(schema, event) });
}
await producer.send({ topic: "events", acks: -1, messages });
await producer.disconnect();
