/** Brokers and fake Geminis of a test's own, each at a port of its own. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { Client, credentials } from "@grpc/grpc-js";

/** The repository. */
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const BIN = process.env["KEYBROKER_BIN"] ?? join(ROOT, "target", "quick");
const PATIENCE = 20_000;

/** A program of the workspace. */
export function binary(name: string): string {
  return join(BIN, name);
}

/** A program that runs until its test is over. */
export class Program {
  readonly child: ChildProcess;
  /** What it wrote that was not asked for. */
  log = "";

  constructor(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(binary(name), args, {
      env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.child.on("error", (error) => {
      this.log += `${error.message}: build it, or set KEYBROKER_BIN to its folder`;
    });
  }

  /** The first line of a stream for which `read` answers something. */
  async firstOf<T>(stream: Readable | null, read: (line: string) => T | undefined): Promise<T> {
    if (stream === null) {
      throw new Error("the stream is piped");
    }
    const lines = createInterface({ input: stream });
    return await new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`it does not serve:\n${this.log}`));
      }, PATIENCE);
      lines.on("line", (line) => {
        const found = read(line);
        if (found === undefined) {
          this.log += `${line}\n`;
        } else {
          clearTimeout(timer);
          resolve(found);
        }
      });
      lines.on("close", () => {
        clearTimeout(timer);
        reject(new Error(`it ended:\n${this.log}`));
      });
    });
  }

  /** Ends it at once. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.#isRunning) {
      const ended = new Promise((resolve) => this.child.once("exit", resolve));
      this.child.kill(signal);
      await ended;
    }
  }

  /** Ends it by ending its input, and by force if that is not enough. */
  async endInput(): Promise<void> {
    const patience = new AbortController();
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdin?.end();
    if (this.#isRunning) {
      await Promise.race([ended, sleep(10_000, undefined, { signal: patience.signal }).catch(() => undefined)]);
    }
    patience.abort();
    await this.kill();
  }

  get #isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null && this.child.pid !== undefined;
  }
}

/** Brokers and a fake Gemini as a scenario of `client-sdk/contract` wants them. */
export class Scene {
  private constructor(
    private readonly program: Program,
    private readonly lines: AsyncIterator<string>,
    readonly brokers: readonly string[],
    /** The base URL of the fake Gemini. */
    readonly gemini: string,
    /** The folder that certificates are named in. */
    readonly certificates: string,
  ) {}

  static async open(file: string): Promise<Scene> {
    const program = new Program("contract-stage", [file]);
    const { stdout, stderr } = program.child;
    assert.ok(stdout !== null);
    stderr?.on("data", (text) => {
      program.log += String(text);
    });
    const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
    const said = (await read(program, lines)) as { brokers: string[]; gemini: string; certificates: string };
    return new Scene(program, lines, said.brokers, said.gemini, said.certificates);
  }

  /** Has the stage take a step, and reads its answer. */
  take(step: object): Promise<Record<string, unknown>> {
    this.program.child.stdin?.write(`${JSON.stringify(step)}\n`);
    return read(this.program, this.lines);
  }

  end(): Promise<void> {
    return this.program.endInput();
  }
}

async function read(program: Program, lines: AsyncIterator<string>): Promise<Record<string, unknown>> {
  const line = await lines.next();
  assert.ok(line.done !== true, `the stage ended: ${program.log}`);
  return JSON.parse(line.value) as Record<string, unknown>;
}

/** What a fake Gemini saw. */
export interface Verdict {
  readonly calls: number;
  readonly quota_refusals: number;
  readonly keys_in_url: number;
  /** Calls by the key's fingerprint and by method. */
  readonly keys: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** What a fake Gemini remembers of a call. */
export interface Entry {
  readonly project: string;
  readonly model: string;
  readonly method: string;
  readonly status: number;
  readonly requests: number;
  readonly input_tokens: number;
}

/** A fake Gemini. */
export class Gemini {
  private constructor(
    private readonly program: Program,
    readonly url: string,
  ) {}

  static async start(projects = 1): Promise<Gemini> {
    const program = new Program("fake-gemini", ["--projects", String(projects)]);
    const address = await program.firstOf(
      program.child.stdout,
      (line) => (JSON.parse(line) as { listening?: string }).listening,
    );
    return new Gemini(program, `http://${address}`);
  }

  /** Adds rules of what goes wrong. */
  async faults(...rules: object[]): Promise<void> {
    const answer = await fetch(`${this.url}/control/faults`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(rules),
    });
    if (!answer.ok) {
      throw new Error(await answer.text());
    }
  }

  async verdict(): Promise<Verdict> {
    return (await (await fetch(`${this.url}/control/verdict`)).json()) as Verdict;
  }

  async log(): Promise<Entry[]> {
    const page = (await (await fetch(`${this.url}/control/log`)).json()) as { entries: Entry[] };
    return page.entries;
  }

  end(): Promise<void> {
    return this.program.kill();
  }
}

/** What a broker counts. */
export interface Counters {
  granted: number;
  refused: number;
  settled: number;
  waiting: number;
}

/** Of an `InspectPoolResponse`, whose field 6 they are. */
function readCounters(bytes: Buffer): Counters {
  const counters: Counters = { granted: 0, refused: 0, settled: 0, waiting: 0 };
  const names = ["granted", "refused", "settled", "waiting"] as const;
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field !== 6) {
      reader.skip(type);
      continue;
    }
    const end = reader.uint32() + reader.pos;
    while (reader.pos < end) {
      const [number, kind] = reader.tag();
      const name = names[number - 1];
      if (name === undefined) {
        reader.skip(kind);
      } else {
        counters[name] = Number(reader.int64());
      }
    }
  }
  return counters;
}

/** How a broker is to be. */
export interface BrokerPlan {
  readonly projects?: number;
  /** Fields of the pool `default`, in the form of the configuration. */
  readonly pool?: string;
  /** Arguments of `keybroker serve`. */
  readonly args?: readonly string[];
}

/** A broker. */
export class BrokerProcess {
  #program: Program | undefined;

  private constructor(
    readonly address: string,
    private readonly folder: string,
    private readonly args: readonly string[],
  ) {}

  static async start({ projects = 1, pool = "", args = [] }: BrokerPlan = {}): Promise<BrokerProcess> {
    const folder = mkdtempSync(join(tmpdir(), "keybroker-js-"));
    const config = join(folder, "keybroker.toml");
    const listed = Array.from({ length: projects }, (_, number) => {
      const digits = String(number).padStart(4, "0");
      return `[[projects]]\nid = "project-${digits}"\nkeys = [{ id = "key-${digits}", secret = "fake-key-${digits}" }]\n`;
    });
    writeFileSync(config, `default_plan = "off"\n[[pools]]\nname = "default"\n${pool}\n${listed.join("")}`);
    const address = `127.0.0.1:${await freePort()}`;
    const broker = new BrokerProcess(address, folder, ["--config", config, "--data-dir", join(folder, "data"), ...args]);
    await broker.begin();
    return broker;
  }

  /** Starts it, at its address. */
  async begin(): Promise<void> {
    const program = new Program("keybroker", [
      "serve",
      "--grpc-addr",
      this.address,
      "--http-addr",
      "127.0.0.1:0",
      "--log-format",
      "json",
      ...this.args,
    ]);
    this.#program = program;
    program.child.stdout?.resume();
    await program.firstOf(program.child.stderr, (line) => {
      const fields = line.startsWith("{") ? (JSON.parse(line) as { fields?: Record<string, string> }).fields : undefined;
      return fields?.["message"] === "serving" ? fields : undefined;
    });
  }

  /** What it counted since it started. */
  counters(): Promise<Counters> {
    const client = new Client(this.address, credentials.createInsecure());
    return new Promise<Counters>((resolve, reject) => {
      client.makeUnaryRequest<string, Counters>(
        "/keybroker.v1.Admin/InspectPool",
        (pool) => Buffer.from(new BinaryWriter().uint32(10).string(pool).finish()),
        readCounters,
        "default",
        (error, counters) => {
          client.close();
          if (error !== null) {
            reject(error);
          } else {
            resolve(counters ?? { granted: 0, refused: 0, settled: 0, waiting: 0 });
          }
        },
      );
    });
  }

  /** Waits until its counters are such. */
  async sees(expected: Partial<Counters>): Promise<void> {
    const isMet = (seen: Counters) =>
      Object.entries(expected).every(([name, value]) => seen[name as keyof Counters] === value);
    let seen = await this.counters();
    for (let round = 0; round < 250 && !isMet(seen); round++) {
      await sleep(20);
      seen = await this.counters();
    }
    assert.ok(isMet(seen), `${JSON.stringify(seen)} should have ${JSON.stringify(expected)}`);
  }

  /** Ends it at once; `begin` starts it again. */
  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.#program?.kill(signal);
  }

  async end(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * A port at which nobody listens, below those that Linux and macOS give to outgoing connections (from 32768), so that
 * no connection of another test's takes it before it is used.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => {
        resolve(false);
      });
      server.listen(port, "127.0.0.1", () => {
        resolve(true);
      });
    });
    if (free) {
      await new Promise((resolve) => server.close(resolve));
      return port;
    }
  }
  throw new Error("no port of a hundred is free");
}
