/** A process of its own, which delivers what another one left when it ended; see exit.ts. */

import { text } from "node:stream/consumers";

import { Backoff } from "./backoff.js";
import { now, sleep } from "./clock.js";
import { KeybrokerError } from "./errors.js";
import type { Leftover } from "./exit.js";
import { LeaseReport } from "./generated/keybroker/v1/keybroker.js";
import { Rpc } from "./rpc.js";

/** How long delivery is tried, in milliseconds: somebody waits for it. */
const PATIENCE = 2_500;
/** The most reports of one call, by the contract. */
const BATCH = 256;
const BACKOFF = new Backoff(100, 500);

const leftovers = JSON.parse(await text(process.stdin), revive) as Leftover[];
await Promise.all(leftovers.map(deliver));

async function deliver({ addresses, options, reports }: Leftover): Promise<void> {
  const rpc = new Rpc(addresses, options);
  const all = reports.map((report) => LeaseReport.decode(Buffer.from(report, "base64")));
  for (let from = 0; from < all.length; from += BATCH) {
    await insist(rpc, all.slice(from, from + BATCH));
  }
  rpc.close();
}

async function insist(rpc: Rpc, reports: LeaseReport[]): Promise<void> {
  const until = now() + PATIENCE;
  for (let retry = 0; ; retry++) {
    try {
      await rpc.report(reports);
      return;
    } catch (error) {
      if (!(error instanceof KeybrokerError && error.isRetryable) || now() > until) {
        return;
      }
      await sleep(BACKOFF.wait(retry));
    }
  }
}

/** Bytes, which JSON has no form for. */
function revive(_name: string, value: unknown): unknown {
  const bytes = typeof value === "object" && value !== null ? (value as { bytes?: unknown }).bytes : undefined;
  return typeof bytes === "string" ? Buffer.from(bytes, "base64") : value;
}
