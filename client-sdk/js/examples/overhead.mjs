// What leasing costs: so many calls of the official SDK with a key of its own, and as many with leased keys, by turns;
// and the two round trips to the broker alone.
//
//   node examples/overhead.mjs --broker 127.0.0.1:50051 --gemini http://127.0.0.1:8080 --key fake-key-0000 --calls 100

import { GoogleGenAI } from "@google/genai";
import { Broker } from "keybroker";
import { createGenAI } from "keybroker/genai";

import { quantile, readArguments } from "./arguments.mjs";

const given = readArguments({
  broker: "127.0.0.1:50051",
  gemini: "http://127.0.0.1:8080",
  key: "fake-key-0000",
  calls: "100",
  model: "gemini-2.5-flash",
});
const broker = new Broker(given.broker);
const direct = new GoogleGenAI({ apiKey: given.key, httpOptions: { baseUrl: given.gemini } });
const leased = createGenAI(broker, { baseUrl: given.gemini });
const asked = { model: given.model, contents: "Why is the sky blue?" };

const ways = {
  direct: () => direct.models.generateContent(asked),
  leased: () => leased.models.generateContent(asked),
  rpc: async () => {
    const lease = await broker.acquire({ model: given.model, wait: 60_000 });
    lease.beginSend();
    await lease.success();
  },
};
/** @type {Record<keyof typeof ways, number[]>} */
const took = { direct: [], leased: [], rpc: [] };
const names = /** @type {(keyof typeof ways)[]} */ (Object.keys(ways));

for (let round = -5; round < Number(given.calls); round++) {
  for (const name of names) {
    const began = performance.now();
    await ways[name]();
    // The first rounds make the connections.
    if (round >= 0) {
      took[name].push(performance.now() - began);
    }
  }
}
await broker.close();
console.log(
  JSON.stringify({
    direct_p50_ms: quantile(took.direct, 0.5),
    leased_p50_ms: quantile(took.leased, 0.5),
    rpc_p50_ms: quantile(took.rpc, 0.5),
  }),
);
