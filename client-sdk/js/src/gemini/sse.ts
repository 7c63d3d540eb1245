/**
 * Reads server-sent events, and what an upstream sends beside them: an error object sent into the stream as plain
 * JSON, without `data:`, must be found.
 */

/** As many characters of what is no event are kept. */
const MOST_STRAY = 64 * 1024;
/** Comments, and fields that carry no data. */
const OTHER_FIELD = /^(?::|event:|id:|retry:)/;

/** Takes bytes as they arrive, gives events as they are complete. Lines end with LF or CRLF. */
export class SseDecoder {
  readonly #decoder = new TextDecoder();
  #pieces: string[] = [];
  #data: string[] = [];
  #stray = "";

  /** The data of the events that these bytes complete. */
  push(bytes: Uint8Array): string[] {
    const lines = this.#decoder.decode(bytes, { stream: true }).split("\n");
    const rest = lines.pop() ?? "";
    const events: string[] = [];
    for (const line of lines) {
      // A line of megabytes that comes in small pieces is put together once.
      const whole = this.#pieces.length === 0 ? line : [...this.#pieces, line].join("");
      this.#pieces = [];
      if (this.#isEnd(whole)) {
        events.push(this.#data.join("\n"));
        this.#data = [];
      }
    }
    if (rest !== "") {
      this.#pieces.push(rest);
    }
    return events;
  }

  /** What is left at the end: the data of an event that was not closed, and lines that are no events. */
  finish(): { event: string | undefined; stray: string } {
    const rest = this.#pieces.join("") + this.#decoder.decode();
    this.#pieces = [];
    if (rest !== "") {
      this.#isEnd(rest);
    }
    return { event: this.#data.length === 0 ? undefined : this.#data.join("\n"), stray: this.#stray };
  }

  /** Reads one line; true if it closes an event. */
  #isEnd(given: string): boolean {
    const line = given.endsWith("\r") ? given.slice(0, -1) : given;
    if (line === "") {
      return this.#data.length > 0;
    }
    if (line.startsWith("data:")) {
      this.#data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
    } else if (!OTHER_FIELD.test(line) && this.#stray.length + line.length < MOST_STRAY) {
      this.#stray += `${line}\n`;
    }
    return false;
  }
}
