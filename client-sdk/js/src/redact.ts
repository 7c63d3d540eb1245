/** Takes a leased key out of what an upstream sent back: some of Google's errors echo it whole. */

const MASK = "[redacted]";

/** The bytes with every exact occurrence of the key masked. */
export function redactBytes(bytes: Uint8Array, key: string): Uint8Array {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const needle = Buffer.from(key);
  let at = key === "" ? -1 : body.indexOf(needle);
  if (at === -1) {
    return bytes;
  }
  const parts: Buffer[] = [];
  let from = 0;
  for (; at !== -1; at = body.indexOf(needle, from)) {
    parts.push(body.subarray(from, at), Buffer.from(MASK));
    from = at + needle.length;
  }
  parts.push(body.subarray(from));
  return Buffer.concat(parts);
}

/** The same of a text. */
export function redactText(text: string, key: string): string {
  return key === "" ? text : text.replaceAll(key, MASK);
}
