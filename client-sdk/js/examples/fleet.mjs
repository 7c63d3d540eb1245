// Many workers at once call Gemini through the official SDK with leased keys, for a while:
//
//   node examples/fleet.mjs --broker 127.0.0.1:50051 --seconds 60 --workers 200
//
// Prints one line of JSON. `failed` counts errors by kind.

import { setTimeout as sleep } from "node:timers/promises";

import { ApiError } from "@google/genai";
import { Broker, KeybrokerError } from "keybroker";
import { createGenAI } from "keybroker/genai";

import { quantile, readArguments } from "./arguments.mjs";

const given = readArguments({
  broker: "127.0.0.1:50051",
  gemini: "https://generativelanguage.googleapis.com",
  seconds: "60",
  workers: "200",
  model: "gemini-2.5-flash",
});
const until = performance.now() + Number(given.seconds) * 1000;
const broker = new Broker(given.broker);
// Nobody waits for a key beyond the end of the run.
const ai = createGenAI(broker, { baseUrl: given.gemini, deadline: Number(given.seconds) * 1000 });

/** @type {number[]} */
const took = [];
/** @type {Record<string, number>} */
const failed = {};
let calls = 0;

await Promise.all(Array.from({ length: Number(given.workers) }, (_, number) => work(number)));
await broker.close();
console.log(
  JSON.stringify({ calls, ok: took.length, failed, p50_ms: quantile(took, 0.5), p99_ms: quantile(took, 0.99) }),
);

/** @param {number} number */
async function work(number) {
  while (performance.now() < until) {
    const began = performance.now();
    const end = new AbortController();
    const timer = setTimeout(() => end.abort(), until - began);
    try {
      await ai.models.generateContent({
        model: given.model,
        contents: `Question ${calls} of worker ${number}`,
        config: { abortSignal: end.signal },
      });
      calls++;
      took.push(performance.now() - began);
    } catch (error) {
      // What the end of the run called off is no call.
      if (!end.signal.aborted) {
        calls++;
        const kind = kindOf(error);
        failed[kind] = (failed[kind] ?? 0) + 1;
        await sleep(10);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** @param {unknown} error */
function kindOf(error) {
  if (error instanceof KeybrokerError) {
    return error.kind;
  }
  return error instanceof ApiError ? `status ${error.status}` : String(error);
}
