/**
 * What belongs to one project: a file, a cached content or a batch can be used with keys of the project that made
 * it, and with no other.
 */

import { LRUCache } from "lru-cache";

import { fieldOf } from "./target.js";

/** How many things are remembered. */
const MOST = 10_000;
/** Collections whose members belong to a project. */
const MEMBER = /(?:^|\/)(files|cachedContents|batches|fileSearchStores)\/([^/:?#]+)/;
/** Names are short, and what is long is no name. */
const LONGEST_NAME = 512;

/** Which project made what, as far as this client saw it. */
export class Affinity {
  readonly #projects = new LRUCache<string, string>({ max: MOST });

  /** The project of what the request is about or names, if it is known. */
  projectOf(url: URL, body: unknown): string | undefined {
    if (this.#projects.size === 0) {
      return undefined;
    }
    for (const name of [sessionOf(url), memberOf(url.pathname)]) {
      const project = name === undefined ? undefined : this.#projects.get(name);
      if (project !== undefined) {
        return project;
      }
    }
    return this.#inBody(body);
  }

  /** Takes in what an answer says was made. */
  learn(project: string, headers: Headers, body: unknown): void {
    const upload = headers.get("x-goog-upload-url");
    const session = upload !== null && URL.canParse(upload) ? sessionOf(new URL(upload)) : undefined;
    for (const name of [session, nameIn(body), nameIn(fieldOf(body, "file"))]) {
      if (name !== undefined) {
        this.#projects.set(name, project);
      }
    }
  }

  #inBody(value: unknown): string | undefined {
    if (typeof value === "string") {
      const name = value.length < LONGEST_NAME ? memberOf(value) : undefined;
      return name === undefined ? undefined : this.#projects.get(name);
    }
    if (typeof value !== "object" || value === null) {
      return undefined;
    }
    for (const field of Object.values(value)) {
      const project = this.#inBody(field);
      if (project !== undefined) {
        return project;
      }
    }
    return undefined;
  }
}

function nameIn(body: unknown): string | undefined {
  const name = fieldOf(body, "name");
  return typeof name === "string" ? memberOf(name) : undefined;
}

/** Such as `files/abc`, of a name, a path or a URI. */
function memberOf(text: string): string | undefined {
  const [, collection, id] = MEMBER.exec(text) ?? [];
  return collection === undefined || id === undefined ? undefined : `${collection}/${id}`;
}

function sessionOf(url: URL): string | undefined {
  const id = url.searchParams.get("upload_id");
  return id === null ? undefined : `upload/${id}`;
}
