/** The programs of docs/migrate.md: before and after, they print the same, and no call is refused. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { promisify } from "node:util";

import { ROOT, Scene, type Verdict } from "./stage.js";

const PROGRAMS = join(ROOT, "client-sdk", "js", "examples", "migrate");
const RIVERS = ["Nile", "Amazon", "Yangtze"].map((river) => `echo: Where does the ${river} begin?`);
const PRINTED = { environment: ["echo: Name three rivers."], rotator: RIVERS, file: RIVERS };

describe("what docs/migrate.md shows", { concurrency: 3 }, () => {
  const names = Object.keys(PRINTED).flatMap((name) => [`${name}_after.mjs`, `${name}_before.mjs`]);
  assert.deepEqual(readdirSync(PROGRAMS).sort(), names.sort());
  for (const [name, lines] of Object.entries(PRINTED)) {
    it(`${name}_before prints with keys of its own`, { timeout: 60_000 }, () => prints(name, lines, false));
    it(`${name}_after prints the same with leased keys`, { timeout: 60_000 }, () => prints(name, lines, true));
  }
});

async function prints(name: string, lines: readonly string[], leases: boolean): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "keybroker-js-"));
  const projects = lines.length;
  const keys = lines.map((_, number) => `fake-key-000${number}`);
  writeFileSync(join(folder, "keys.txt"), `${keys.join("\n")}\n`);
  // So little that each key has to take its turn.
  const scenario = { projects, quota: { rpm: 1 }, pool: { limits: [{ requests_per_minute: 1 }] } };
  const story = join(folder, "scenario.json");
  writeFileSync(story, JSON.stringify({ name, about: "", steps: [], ...scenario }));
  const scene = await Scene.open(story);
  try {
    const given = leases ? { KEYBROKER_BROKER: scene.brokers[0] } : { GEMINI_API_KEY: keys[0], GOOGLE_API_KEY: "" };
    const program = join(PROGRAMS, `${name}_${leases ? "after" : "before"}.mjs`);
    const env = { ...process.env, GOOGLE_GEMINI_BASE_URL: scene.gemini, ...given };
    const { stdout } = await promisify(execFile)(process.execPath, [program], { cwd: folder, env });
    assert.deepEqual(stdout.trimEnd().split("\n"), lines);
    const granted = leases ? projects : 0;
    const expect = { calls: projects, refused: 0, keys_in_url: 0, granted, settled: granted };
    const seen = await scene.take({ stage: "see", expect });
    assert.deepEqual({ ...seen, ...expect }, seen);
    const once = keys.map((key) => [createHash("sha256").update(key).digest("hex").slice(0, 12), { generateContent: 1 }]);
    const verdict = (await (await fetch(`${scene.gemini}/control/verdict`)).json()) as Verdict;
    assert.deepEqual(verdict.keys, Object.fromEntries(once));
  } finally {
    await scene.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
