/** Reads `--name value` arguments. */

import { parseArgs } from "node:util";

/**
 * The arguments of an example, each with its default.
 *
 * @template {Record<string, string>} T
 * @param {T} defaults
 * @returns {T}
 */
export function readArguments(defaults) {
  /** @type {Record<string, { type: "string", default: string }>} */
  const options = {};
  for (const [name, value] of Object.entries(defaults)) {
    options[name] = { type: "string", default: value };
  }
  const { values } = parseArgs({ options });
  return /** @type {T} */ (values);
}

/**
 * The value at this place of sorted numbers, to a hundredth.
 *
 * @param {readonly number[]} numbers
 * @param {number} place from 0 to 1
 */
export function quantile(numbers, place) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const value = sorted[Math.min(Math.floor(sorted.length * place), sorted.length - 1)] ?? 0;
  return Math.round(value * 100) / 100;
}
