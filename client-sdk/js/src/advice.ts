/** The broker's answer to a report. */

import {
  Advice_Action,
  SettleState,
  Signal,
  type ReportResult,
} from "./generated/keybroker/v1/keybroker.js";
import { fromDuration } from "./wire.js";

/** What the caller should do next. */
export type Action =
  /** Nothing: the request succeeded, or was never sent. */
  | "DONE"
  /** Acquire again now, without the key that failed: another one can serve this request. */
  | "RETRY_OTHER_KEY"
  /** Acquire again after {@link Advice.retryAfter}; where that is missing, back off. */
  | "RETRY_AFTER"
  /** The request itself is at fault: do not send it again. */
  | "DO_NOT_RETRY";

/** What to do next, and what the broker read in the outcome. */
export interface Advice {
  /** What to do next. */
  readonly action: Action;
  /** Milliseconds to wait; only with `RETRY_AFTER`, and there it may be missing. */
  readonly retryAfter: number | undefined;
  /** One more try, and no third: if that fails as well, do not send the request again. */
  readonly once: boolean;
  /** What the broker read in the outcome, for people and metrics: a name such as `SIGNAL_MINUTE_QUOTA`. */
  readonly signal: string;
  /** One sentence for people; it holds no key text. */
  readonly message: string;
  /** What the report did to its lease: `SETTLED`, `SETTLED_LATE`, `ALREADY_SETTLED` or `UNKNOWN_LEASE`. */
  readonly settled: string;
}

/** Reads an answer. An action of a newer contract means nothing here: the safe reading is not to send again. */
export function toAdvice(result: ReportResult): Advice {
  const advice = result.advice;
  const action = actionOf(advice?.action);
  const wait = fromDuration(advice?.retryAfter);
  return {
    action,
    retryAfter: action === "RETRY_AFTER" && wait !== undefined && wait > 0 ? wait : undefined,
    once: advice?.once ?? false,
    signal: nameOf(Signal, advice?.signal ?? Signal.SIGNAL_UNSPECIFIED),
    message: advice?.message ?? "",
    settled: nameOf(SettleState, result.state),
  };
}

function actionOf(action: Advice_Action | undefined): Action {
  switch (action) {
    case Advice_Action.DONE:
      return "DONE";
    case Advice_Action.RETRY_OTHER_KEY:
      return "RETRY_OTHER_KEY";
    case Advice_Action.RETRY_AFTER:
      return "RETRY_AFTER";
    default:
      return "DO_NOT_RETRY";
  }
}

function nameOf(names: Readonly<Record<number, string>>, value: number): string {
  return names[value] ?? `UNKNOWN_${value}`;
}
