/** Leases by hand, against real brokers and against one that does as it is told. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";

import { ServerCredentials, status as Code } from "@grpc/grpc-js";
import { ROOT_CONTEXT, context, trace, type Context, type ContextManager } from "@opentelemetry/api";
import {
  Broker,
  DeadlineExceededError,
  InvalidArgumentError,
  KeybrokerError,
  LeaseEndedError,
  ReportLostError,
  UnauthenticatedError,
  UnavailableError,
  UndeliveredError,
  UnknownPoolError,
} from "keybroker";

import { Double, granted, settled } from "./double.js";
import { BrokerProcess, freePort } from "./stage.js";

const MODEL = "gemini-2.5-flash";
const LIMITS = 'limits = [{ requests_per_minute = 1000, in_flight = 100 }]';

/** The error of a promise that must fail. */
async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return assert.fail("it should have failed");
}

describe("a lease", () => {
  let process_: BrokerProcess;
  let broker: Broker;
  before(async () => {
    process_ = await BrokerProcess.start({ projects: 2, pool: LIMITS });
    broker = new Broker(process_.address);
  });
  after(async () => {
    await broker.close();
    await process_.end();
  });

  it("is reported once: again changes nothing and gets the first advice", async () => {
    const before_ = await process_.counters();
    const lease = await broker.acquire({ model: MODEL, inputTokens: 10, consumer: "team@example.com", labels: { a: "b" } });
    assert.equal(lease.beginSend(), `fake-${lease.keyId}`);
    const first = await lease.success({ inputTokens: 3 });
    const second = await lease.httpError(500, "{}");
    assert.deepEqual(second, first);
    assert.equal(first.action, "DONE");
    await process_.sees({ settled: before_.settled + 1 });
    assert.throws(() => lease.beginSend(), LeaseEndedError);
  });

  it("reports at the end of its block what was not reported, and passes errors on", async () => {
    const before_ = await process_.counters();
    {
      await using lease = await broker.acquire({ model: MODEL });
      lease.beginSend();
    }
    await assert.rejects(
      broker.withLease({ model: MODEL }, () => {
        throw new RangeError("the caller's own");
      }),
      RangeError,
    );
    assert.equal(
      await broker.withLease({ model: MODEL }, async (lease) => {
        lease.beginSend();
        await lease.success();
        return 7;
      }),
      7,
    );
    await process_.sees({ settled: before_.settled + 3 });
    assert.equal(broker.leasesOut, 0);
  });

  it("shows its key to nobody who looks", async () => {
    const lease = await broker.acquire({ model: MODEL });
    const key = lease.beginSend();
    for (const text of [
      inspect(lease, { depth: 10, showHidden: true }),
      JSON.stringify(lease),
      inspect({ lease }),
      inspect(broker, { depth: 10, showHidden: true }),
      JSON.stringify(broker),
    ]) {
      assert.ok(!text.includes(key), text);
    }
    assert.ok(inspect(lease).includes(lease.keyId));
    await lease.notSent();
  });

  it("of a call that was called off is given back", async () => {
    const before_ = await process_.counters();
    const abort = new AbortController();
    const taken = broker.acquire({ model: MODEL, signal: abort.signal });
    abort.abort();
    assert.equal(((await failure(taken)) as Error).name, "AbortError");
    await sleep(100);
    await broker.flush();
    const { granted: given, settled: back } = await process_.counters();
    assert.equal(given - before_.granted, back - before_.settled);
    const reason = new RangeError("a reason of one's own");
    assert.equal(await failure(broker.acquire({ model: MODEL, signal: AbortSignal.abort(reason) })), reason);
  });

  it("is renewed by itself while asked to", async () => {
    const lease = await broker.acquire({ model: MODEL, ttl: 1_000 });
    const renewal = lease.autoRenew(1_000);
    await sleep(1_700);
    assert.ok(renewal.isActive && lease.expiresIn > 0);
    renewal.stop();
    assert.equal((await lease.success()).settled, "SETTLED");
  });

  it("of two hundred tasks goes over one connection, and is reported in batches", async () => {
    const double = await Double.start();
    const many = new Broker(double.address);
    const leases = await Promise.all(Array.from({ length: 200 }, () => many.acquire({ model: MODEL })));
    await Promise.all(leases.map((lease) => lease.success()));
    assert.equal(double.reported, 200);
    assert.ok(double.reports.length <= 10, `${double.reports.length} calls`);
    await many.close();
    double.end();
  });
});

describe("bad input", () => {
  it("is an address at which nobody listens: unavailable, and named", async () => {
    const address = `127.0.0.1:${await freePort()}`;
    const broker = new Broker(address);
    const error = await failure(broker.acquire({ model: MODEL }));
    assert.ok(error instanceof UnavailableError && !error.answerLost);
    assert.match(error.message, new RegExp(`${address}.*start it, or correct the address`));
    await broker.close();
  });

  it("is an address that has no name, or that does not answer", async () => {
    const broker = new Broker("no-such-host.invalid:50051");
    assert.equal(((await failure(broker.acquire({ model: MODEL }))) as KeybrokerError).kind, "unavailable");
    await broker.close();
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as { port: number };
    const patient = new Broker(`127.0.0.1:${port}`, { connectTimeout: 200 });
    const error = await failure(patient.acquire({ model: MODEL }));
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, /no connection within 0\.2 s/);
    await patient.close();
    silent.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });

  it("is a broker that goes down", async () => {
    const process_ = await BrokerProcess.start({ pool: LIMITS });
    const broker = new Broker(process_.address);
    await (await broker.acquire({ model: MODEL })).notSent();
    await process_.stop();
    const error = await failure(broker.acquire({ model: MODEL }));
    assert.ok(error instanceof UnavailableError, inspect(error));
    assert.ok(error.message.includes(process_.address));
    await process_.end();
    await broker.close();
  });

  it("is a wrong token, a deadline that is too short, and an unknown pool", async () => {
    const double = await Double.start();
    double.acquire = (_request, metadata) =>
      metadata.get("authorization")[0] === "Bearer fake-token" ? granted() : { code: Code.UNAUTHENTICATED, details: "no" };
    const right = new Broker(double.address, { token: "fake-token" });
    await (await right.acquire({ model: MODEL })).success();
    const wrong = new Broker(double.address, { token: "fake-other" });
    const refused = await failure(wrong.acquire({ model: MODEL }));
    assert.ok(refused instanceof UnauthenticatedError);
    assert.match(refused.message, /option token/);
    assert.ok(!inspect(refused).includes("fake-other"));

    double.acquire = () => undefined;
    const hasty = new Broker(double.address, { callTimeout: 100 });
    const late = await failure(hasty.acquire({ model: MODEL }));
    assert.ok(late instanceof DeadlineExceededError, inspect(late));
    assert.match(late.message, /0\.1 s.*callTimeout/);
    await Promise.all([right.close(), wrong.close(), hasty.close()]);
    double.end();

    const process_ = await BrokerProcess.start({ pool: LIMITS });
    const broker = new Broker(process_.address);
    const unknown = await failure(broker.acquire({ model: MODEL, pool: "nowhere" }));
    assert.ok(unknown instanceof UnknownPoolError && unknown.message.includes("nowhere"));
    const model = await failure(broker.acquire({ model: "" }));
    assert.ok(model instanceof InvalidArgumentError);
    assert.equal(model.violations[0]?.field, "model");
    await broker.close();
    await process_.end();
  });

  it("is an option that cannot be used", () => {
    for (const [make, word] of [
      [() => new Broker("10.0.0.1:1", { token: "fake-token" }), "TLS"],
      [() => new Broker("127.0.0.1:1", { token: "two words" }), "ASCII"],
      [() => new Broker("127.0.0.1:1", { callTimeout: -1 }), "callTimeout"],
      [() => new Broker("127.0.0.1:1", { reportQueue: 0 }), "reportQueue"],
      [() => new Broker("127.0.0.1:1", { tls: { ca: "/nowhere.pem" } }), "/nowhere.pem"],
      [() => new Broker("127.0.0.1:1", { tls: { cert: Buffer.from("x") } }), "both cert and key"],
      [() => new Broker("127.0.0.1:1").fetch({ baseUrl: "ftp://x" }), "baseUrl"],
      [() => new Broker("127.0.0.1:1").fetch({ attempts: 0 }), "attempts"],
      [() => new Broker("127.0.0.1:1").fetch({ cache: { max: 0, ttl: 1 } }), "cache.max"],
    ] as const) {
      assert.throws(make, (error: unknown) => error instanceof InvalidArgumentError && error.message.includes(word), word);
    }
    new Broker("10.0.0.1:1", { token: "fake-token", allowTokenWithoutTls: true });
  });

  it("is a client that was closed", async () => {
    const broker = new Broker("127.0.0.1:1");
    await broker.close();
    assert.match(((await failure(broker.acquire({ model: MODEL }))) as Error).message, /closed/);
  });
});

describe("several brokers", () => {
  it("take turns where one is gone, and an acquire goes on only if nothing can be lost", async () => {
    const gone = `127.0.0.1:${await freePort()}`;
    const double = await Double.start();
    const broker = new Broker([gone, double.address]);
    const lease = await broker.acquire({ model: MODEL });
    assert.equal((await lease.success()).action, "DONE");
    await broker.close();

    const breaking = await Double.start();
    breaking.acquire = () => {
      breaking.end();
      return undefined;
    };
    const careful = new Broker([breaking.address, double.address]);
    const error = await failure(careful.acquire({ model: MODEL }));
    assert.ok(error instanceof UnavailableError && error.answerLost, inspect(error));
    assert.ok(await careful.acquire({ model: MODEL }), "the next one is asked then");
    await careful.close();
    double.end();
  });
});

describe("reports", () => {
  it("are tried again until they arrive, and one that is refused takes no others with it", async () => {
    const double = await Double.start();
    let calls = 0;
    double.report = (request) => {
      calls++;
      if (calls === 1) {
        return { code: Code.UNAVAILABLE, details: "a moment" };
      }
      const isBad = request.reports.some(({ outcome }) => outcome?.$case === "httpError");
      return isBad ? { code: Code.INVALID_ARGUMENT, details: "bad" } : settled(request);
    };
    const broker = new Broker(double.address);
    const leases = await Promise.all(Array.from({ length: 4 }, () => broker.acquire({ model: MODEL })));
    const answers = await Promise.allSettled(
      leases.map((lease, number) => (number === 2 ? lease.httpError(500, "x") : lease.success())),
    );
    assert.deepEqual(answers.map(({ status }) => status), ["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    assert.deepEqual([broker.unreported, broker.reportsLost], [0, 1]);
    await broker.close();
    double.end();
  });

  it("that cannot be delivered are given up in the end, and a flush says how many there are", async () => {
    const double = await Double.start();
    const broker = new Broker(double.address, { flushTimeout: 50, reportPatience: 400, reportQueue: 2 });
    const leases = await Promise.all(Array.from({ length: 4 }, () => broker.acquire({ model: MODEL })));
    double.report = () => ({ code: Code.UNAVAILABLE, details: "away" });
    const answers = leases.map((lease) => lease.success());
    const undelivered = await failure(broker.flush());
    assert.ok(undelivered instanceof UndeliveredError && undelivered instanceof DeadlineExceededError);
    for (const answer of await Promise.allSettled(answers)) {
      assert.ok(answer.status === "rejected" && answer.reason instanceof ReportLostError);
    }
    assert.equal(broker.reportsLost, 4);
    await broker.close();
    double.end();
  });
});

describe("the end of a process", () => {
  const program = (address: string, ending: string) => `
    import { Broker } from "keybroker";
    const broker = new Broker(${JSON.stringify(address)});
    globalThis.lease = await broker.acquire({ model: "${MODEL}" });
    globalThis.lease.beginSend();
    ${ending}`;

  for (const [name, ending] of [
    ["where nothing is left to do", ""],
    ["by process.exit()", "process.exit(0);"],
    ["by process.exit() right after a report", "globalThis.lease.success(); process.exit(0);"],
    ["by an error that nobody caught", 'throw new Error("on purpose");'],
  ] as const) {
    it(`${name} leaves no lease behind`, async () => {
      const process_ = await BrokerProcess.start({ pool: LIMITS });
      const child = spawn(process.execPath, ["--input-type=module", "--eval", program(process_.address, ending)], {
        cwd: new URL("..", import.meta.url),
        stdio: "ignore",
      });
      await new Promise((resolve) => child.once("exit", resolve));
      assert.deepEqual(await process_.counters(), { granted: 1, refused: 0, settled: 1, waiting: 0 });
      await process_.end();
    });
  }

  it("by SIGKILL costs the lease that was out, until it expires", async () => {
    const process_ = await BrokerProcess.start({ pool: 'limits = [{ in_flight = 1, requests_per_minute = 1000 }]\nlease_ttl = "1s"' });
    const child = spawn(
      process.execPath,
      ["--input-type=module", "--eval", program(process_.address, 'process.kill(process.pid, "SIGKILL");')],
      { cwd: new URL("..", import.meta.url), stdio: "ignore" },
    );
    await new Promise((resolve) => child.once("exit", resolve));
    const broker = new Broker(process_.address);
    await (await broker.acquire({ model: MODEL, wait: 5_000 })).notSent();
    assert.deepEqual((await process_.counters()).granted, 2);
    await broker.close();
    await process_.end();
  });
});

describe("TLS", () => {
  it("is spoken with a certificate of each side, under the server's name", async (test) => {
    const folder = mkdtempSync(join(tmpdir(), "keybroker-tls-"));
    const file = (name: string) => join(folder, name);
    try {
      const subject = (name: string) => ["-subj", `/CN=${name}`, "-days", "2", "-nodes", "-newkey", "rsa:2048"];
      execFileSync("openssl", ["req", "-x509", ...subject("fake-ca"), "-keyout", file("ca.key"), "-out", file("ca.pem")], { stdio: "ignore" });
      for (const name of ["server", "client"]) {
        execFileSync("openssl", ["req", ...subject(`${name}.example`), "-addext", `subjectAltName=DNS:${name}.example`, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`)], { stdio: "ignore" });
        execFileSync("openssl", ["x509", "-req", "-in", file(`${name}.csr`), "-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", file(`${name}.pem`)], { stdio: "ignore" });
      }
    } catch (error) {
      rmSync(folder, { recursive: true });
      test.skip(`certificates cannot be made: ${(error as Error).message}`);
      return;
    }
    const read = (name: string) => readFileSync(file(name));
    const pair = { private_key: read("server.key"), cert_chain: read("server.pem") };
    const double = await Double.start(ServerCredentials.createSsl(read("ca.pem"), [pair], true));
    const tls = { ca: file("ca.pem"), cert: file("client.pem"), key: read("client.key"), serverName: "server.example" };
    const broker = new Broker(double.address, { tls, token: "fake-token" });
    assert.equal((await (await broker.acquire({ model: MODEL })).success()).action, "DONE");
    assert.deepEqual(double.acquires[0]?.metadata.get("authorization"), ["Bearer fake-token"]);
    await broker.close();

    const plain = new Broker(double.address, { connectTimeout: 500 });
    assert.ok((await failure(plain.acquire({ model: MODEL }))) instanceof UnavailableError);
    const stranger = new Broker(double.address, { tls: { ...tls, serverName: "other.example" }, connectTimeout: 500 });
    assert.ok((await failure(stranger.acquire({ model: MODEL }))) instanceof UnavailableError);
    await Promise.all([plain.close(), stranger.close()]);
    double.end();
    rmSync(folder, { recursive: true });
  });
});

describe("a trace", () => {
  it("goes on into the broker", async () => {
    const double = await Double.start();
    const broker = new Broker(double.address);
    let current: Context = ROOT_CONTEXT;
    const manager: ContextManager = {
      active: () => current,
      with: (given, block, self, ...args) => {
        const outer = current;
        current = given;
        try {
          return block.call(self as ThisParameterType<typeof block>, ...args);
        } finally {
          current = outer;
        }
      },
      bind: (_context, target) => target,
      enable: () => manager,
      disable: () => manager,
    };
    context.setGlobalContextManager(manager);
    const span = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1 };
    const lease = await context.with(trace.setSpanContext(ROOT_CONTEXT, span), () => broker.acquire({ model: MODEL }));
    await lease.success();
    context.disable();
    assert.deepEqual(double.acquires[0]?.metadata.get("traceparent"), [`00-${span.traceId}-${span.spanId}-01`]);
    await broker.close();
    double.end();
  });
});
