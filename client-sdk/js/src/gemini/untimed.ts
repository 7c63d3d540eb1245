/**
 * The `fetch` of Node.js gives up on an answer after five minutes of silence, and a model may think for longer. The
 * official SDK sends without that limit, where nobody gives it a `fetch`; so does this package, with limits of its
 * own.
 */

/** Where Node.js keeps what its `fetch` sends with. */
const GLOBAL = Symbol.for("undici.globalDispatcher.1");

interface Dispatcher {
  dispatch(options: object, handler: object): boolean;
}

/** A dispatcher as the global one, without its timeouts; `undefined` where there is none of that kind. */
export function untimed(): Dispatcher | undefined {
  const found = (globalThis as Record<symbol, unknown>)[GLOBAL] as Dispatcher | undefined;
  if (typeof found?.dispatch !== "function") {
    return undefined;
  }
  return { dispatch: (options, handler) => found.dispatch({ ...options, headersTimeout: 0, bodyTimeout: 0 }, handler) };
}
