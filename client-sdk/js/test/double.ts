/** A broker that does as it is told, for what a real one does not do on demand. */

import { Server, ServerCredentials, type Metadata, type ServiceError } from "@grpc/grpc-js";

import {
  KeyBrokerService,
  SettleState,
  type AcquireRequest,
  type AcquireResponse,
  type KeyBrokerServer,
  type ReportRequest,
  type ReportResponse,
} from "../dist/generated/keybroker/v1/keybroker.js";

/** What it does with a call: an answer, an error to give, or nothing for ever. */
export type Play<Q, A> = (request: Q, metadata: Metadata) => A | Partial<ServiceError> | Promise<A> | undefined;

export class Double {
  readonly #server = new Server();
  readonly acquires: { request: AcquireRequest; metadata: Metadata }[] = [];
  readonly reports: ReportRequest[] = [];
  address = "";
  acquire: Play<AcquireRequest, AcquireResponse> = () => granted();
  report: Play<ReportRequest, ReportResponse> = (request) => settled(request);

  private constructor() {
    const serve = <Q, A>(play: Play<Q, A>, request: Q, metadata: Metadata, done: (error: Partial<ServiceError> | null, answer?: A) => void) => {
      void (async () => {
        const answer = await play(request, metadata);
        if (answer === undefined) {
          return;
        }
        if (typeof answer === "object" && answer !== null && "code" in answer) {
          done(answer);
        } else {
          done(null, answer as A);
        }
      })();
    };
    const handlers: KeyBrokerServer = {
      acquire: (call, done) => {
        this.acquires.push({ request: call.request, metadata: call.metadata });
        serve(this.acquire, call.request, call.metadata, done);
      },
      report: (call, done) => {
        this.reports.push(call.request);
        serve(this.report, call.request, call.metadata, done);
      },
      renew: (_call, done) => {
        done(null, { expiresAt: undefined, expiresIn: { seconds: 60, nanos: 0 } });
      },
    };
    this.#server.addService(KeyBrokerService, handlers);
  }

  static async start(credentials = ServerCredentials.createInsecure()): Promise<Double> {
    const double = new Double();
    const port = await new Promise<number>((resolve, reject) => {
      double.#server.bindAsync("127.0.0.1:0", credentials, (error, found) => {
        if (error === null) {
          resolve(found);
        } else {
          reject(error);
        }
      });
    });
    double.address = `127.0.0.1:${port}`;
    return double;
  }

  /** How many reports it took. */
  get reported(): number {
    return this.reports.reduce((sum, { reports }) => sum + reports.length, 0);
  }

  end(): void {
    this.#server.forceShutdown();
  }
}

let leases = 0;

/** A lease. */
export function granted(over: Partial<NonNullable<AcquireResponse["lease"]>> = {}): AcquireResponse {
  leases++;
  return {
    lease: {
      leaseId: `lease-${leases}`,
      keyId: "key-0000",
      apiKey: "fake-key-0000",
      project: "project-0000",
      quotaModel: "gemini-2.5-flash",
      sendWithin: { seconds: 5, nanos: 0 },
      expiresAt: undefined,
      expiresIn: { seconds: 60, nanos: 0 },
      permits: 1,
      overPlan: false,
      ...over,
    },
    settled: undefined,
  };
}

/** Every report settled. */
export function settled({ reports }: ReportRequest): ReportResponse {
  return {
    results: reports.map(({ leaseId }) => ({
      leaseId,
      state: SettleState.SETTLED,
      advice: { action: 1, retryAfter: undefined, signal: 1, message: "", once: false },
    })),
  };
}
