/**
 * The end of the process. Where nothing is left to do, what is out is reported, which keeps the process up until it
 * is delivered. Where the process is ended (`process.exit()`, an error that nobody caught), nothing can be awaited
 * any more: a helper process delivers, for which the end waits a moment.
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { BrokerOptions } from "./options.js";
import type { Shared } from "./shared.js";

/** How long the end waits for the helper, in milliseconds. */
const PATIENCE = 4_000;
const HELPER = new URL("./deliver.js", import.meta.url);

/** Reports that are not delivered, each in the contract's form and in base64, and whom to deliver them to. */
export interface Leftover {
  readonly addresses: string | readonly string[];
  readonly options: BrokerOptions;
  readonly reports: readonly string[];
}

let isWatching = false;

/** Sees to the end of the process, for as many clients as are in use then. */
export function watchTheEnd(inUse: ReadonlySet<Shared>): void {
  if (isWatching) {
    return;
  }
  isWatching = true;
  process.on("beforeExit", () => {
    for (const shared of inUse) {
      shared.leaveAll("the process ended without a report");
    }
  });
  process.on("exit", () => {
    const leftovers = [...inUse].map((shared) => shared.leftover()).filter((leftover) => leftover !== undefined);
    if (leftovers.length > 0) {
      deliver(leftovers);
    }
  });
}

function deliver(leftovers: readonly Leftover[]): void {
  // Other runtimes than Node.js, and bundles, know no such helper.
  if (process.versions["bun"] !== undefined || process.versions["electron"] !== undefined || !existsSync(HELPER)) {
    return;
  }
  const input = JSON.stringify(leftovers, (_name, value: unknown) =>
    value instanceof Uint8Array ? { bytes: Buffer.from(value).toString("base64") } : value,
  );
  // What this process was told to do besides, such as to wait for a debugger, is not for the helper.
  const env = { ...process.env, NODE_OPTIONS: "" };
  spawnSync(process.execPath, [fileURLToPath(HELPER)], {
    input,
    env,
    stdio: ["pipe", "ignore", "ignore"],
    timeout: PATIENCE,
    windowsHide: true,
  });
}
