/** Where the brokers are. */

import { InvalidArgumentError } from "./errors.js";

/** The address of one broker. */
export interface Address {
  /** Such as `127.0.0.1:50051`, for texts and for gRPC. */
  readonly text: string;
  /** Whether only this host can be behind it. */
  readonly isLoopback: boolean;
}

/** Reads `host:port`, or several of them separated by commas. A leading `http://` is ignored. */
export function readAddresses(given: string | readonly string[]): Address[] {
  const texts = typeof given === "string" ? given.split(",") : given;
  if (texts.length === 0) {
    throw InvalidArgumentError.of("address", "give at least one host:port");
  }
  return texts.map((text) => readAddress(text.trim()));
}

function readAddress(given: string): Address {
  const wrong = (why: string) =>
    InvalidArgumentError.of("address", `cannot use "${given}" as a broker's address, give host:port: ${why}`);
  const [, scheme, text = ""] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*?)\/?$/i.exec(given) ?? [];
  if (scheme !== undefined && scheme.toLowerCase() !== "http") {
    throw wrong(
      scheme.toLowerCase() === "https" ? "for TLS leave the scheme out and set the option tls" : "the scheme must be http",
    );
  }
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.%]+)\]|([^\s:/[\]?#@]*))(?::(\d+))?$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) {
    throw wrong("it is no host and port");
  }
  if (host === "") {
    throw wrong("it needs a host");
  }
  const port = Number(digits);
  if (!(port >= 1 && port <= 65535)) {
    throw wrong("it needs a port, 1 to 65535");
  }
  return { text, isLoopback: isLoopback(host) };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
