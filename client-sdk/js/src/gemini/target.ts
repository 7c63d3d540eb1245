/** What the URL and the body of a request say of it. */

/** Below a version of the API is Gemini: `/v1beta/...`, also for uploads and downloads. */
const GEMINI = /(?:^|\/)v\d+(?:alpha|beta|main)?\d*\//;

/** What a request asks for. */
export interface Target {
  /** The model that it names, in its path or its body. */
  readonly model: string | undefined;
  /** The method after the colon, such as `generateContent`; empty where there is none. */
  readonly method: string;
  /** How many requests it counts for. */
  readonly permits: number;
  /** Whether its answer comes in pieces, each a part of what is generated. */
  readonly generatesStream: boolean;
}

/** Whether a path is one of the Gemini API. */
export function isGemini(path: string): boolean {
  return GEMINI.test(path);
}

/** Reads a path and, where there is one, a JSON body. */
export function readTarget(path: string, body: unknown): Target {
  const { model, method } = nameOf(path, body);
  const requests = method === "batchEmbedContents" ? fieldOf(body, "requests") : undefined;
  return {
    model: model === "" ? undefined : model,
    method,
    permits: Array.isArray(requests) ? Math.max(requests.length, 1) : 1,
    generatesStream: method === "streamGenerateContent",
  };
}

function nameOf(path: string, body: unknown): { model: string | undefined; method: string } {
  const parts = path.split("/").map(decode);
  const place = parts.findIndex((part) => part === "models" || part === "tunedModels");
  const named = place === -1 ? undefined : parts[place + 1];
  if (named === undefined || named === "") {
    const model = fieldOf(body, "model");
    return { model: typeof model === "string" ? model.replace(/^models\//, "") : undefined, method: "" };
  }
  const colon = named.indexOf(":");
  const id = colon === -1 ? named : named.slice(0, colon);
  const method = colon === -1 ? "" : named.slice(colon + 1);
  return { model: parts[place] === "models" ? id : `tunedModels/${id}`, method };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The field of what may be an object. */
export function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
