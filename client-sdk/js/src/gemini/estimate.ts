/** How many input tokens a request may cost, before anyone has counted them. */

/** What bytes that are no text (an image, a file by reference) are taken for. */
const MEDIA = 2_240;
/** Longer media is taken for one token to this many base64 characters. */
const MEDIA_CHARACTERS = 40;

/**
 * An upper estimate of the input tokens of a request body, made locally.
 *
 * A digit, a mark or a line break counts as one token; a letter, a space or a byte beyond ASCII as half of one.
 * That is high for every language's prose (by about two) and for code, and holds for numbers, of which each
 * digit is a token. Media counts by its size, with a flat allowance at least; a file given by reference counts
 * that allowance only, as its size is not known here: requests with large files by reference deserve an
 * `inputTokens` of their own.
 *
 * It need not be exact: the broker corrects the charge by the usage that is reported.
 */
export function estimateInputTokens(body: unknown): number {
  return Math.ceil(halvesOf(body) / 2);
}

function halvesOf(value: unknown): number {
  if (typeof value === "string") {
    return ofText(value);
  }
  if (Array.isArray(value)) {
    return value.reduce<number>((sum, item) => sum + halvesOf(item), 0);
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).reduce((sum, [name, field]) => sum + ofField(name, field), 0);
  }
  return typeof value === "number" ? ofText(String(value)) : 2;
}

function ofField(name: string, field: unknown): number {
  const isObject = typeof field === "object" && field !== null && !Array.isArray(field);
  if (isObject && (name === "inlineData" || name === "inline_data")) {
    const data: unknown = (field as { data?: unknown }).data;
    const size = typeof data === "string" ? data.length : 0;
    return 2 * Math.max(MEDIA, Math.floor(size / MEDIA_CHARACTERS));
  }
  if (isObject && (name === "fileData" || name === "file_data")) {
    return 2 * MEDIA;
  }
  // Names of fields count too: schemas consist of them, and in a conversation they stand for what separates its
  // turns.
  return ofText(name) + halvesOf(field);
}

/** Of a text in UTF-8, in halves of a token. */
function ofText(text: string): number {
  let halves = 0;
  for (let at = 0; at < text.length; at++) {
    halves += ofUnit(text.charCodeAt(at));
  }
  return halves;
}

/** Of one unit of UTF-16; the two halves of a pair make four bytes. */
function ofUnit(unit: number): number {
  if (unit < 0x80) {
    const isLetter = (unit >= 0x41 && unit <= 0x5a) || (unit >= 0x61 && unit <= 0x7a);
    return isLetter || unit === 0x20 ? 1 : 2;
  }
  if (unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff)) {
    return 2;
  }
  return 3;
}
