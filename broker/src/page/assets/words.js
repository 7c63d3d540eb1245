// Numbers, times and names in words.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const money = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: 4 });

const REASONS = {
  minute_quota: "the minute’s quota is spent",
  daily_quota: "the day’s quota is spent",
  model_not_offered: "the project is not offered the model",
  capacity: "Google is short of capacity",
  spend_rate: "money is spent too fast",
  spend_cap: "the spending cap is reached",
  credit_depleted: "the credit is used up",
  key_invalid: "Google says the key is not valid",
  key_binding: "the key is bound to something else",
  key_leaked: "Google says the key has leaked",
  key_suspended: "Google suspended the key",
  project_disabled: "the project or its API is disabled",
  key_restricted: "the key’s restrictions do not allow it",
  permission_unclear: "Google refuses permission, and does not say why",
  model_closed: "the model is closed",
  model_overloaded: "the model is overloaded",
  server_fault: "Google’s servers fail",
  network_fault: "the network fails",
};

const KINDS = {
  key_disabled: ["Key disabled", "bad"],
  key_recovered: ["Key recovered", "ok"],
  cooldown_begun: ["Cooldown begun", "warn"],
  cooldown_ended: ["Cooldown ended", "ok"],
  pool_nearly_exhausted: ["Pool nearly exhausted", "warn"],
  pool_exhausted: ["Pool exhausted", "bad"],
  limit_learned: ["Limit learned", "plain"],
  outside_usage_suspected: ["Outside usage suspected", "warn"],
  ledger_unavailable: ["Ledger unavailable", "bad"],
  key_rotated: ["Key rotated", "plain"],
  key_rotation_done: ["Former text unused", "ok"],
  secret_source_failed: ["Secret source failed", "bad"],
  secret_source_recovered: ["Secret source recovered", "ok"],
};

/** All kinds of events. */
export const EVENT_KINDS = Object.keys(KINDS);

/** The name of an enum's value without its beginning: KEY_STATE_ACTIVE is "active". */
export function enumName(value, beginning) {
  const name = String(value ?? "").toLowerCase();
  return name.startsWith(beginning) ? name.slice(beginning.length) : name;
}

/** A kind of event in words. */
export function kindWords(kind) {
  return KINDS[kind]?.[0] ?? plain(kind);
}

/** How grave a kind of event is: ok, plain, warn or bad. */
export function kindTone(kind) {
  return KINDS[kind]?.[1] ?? "plain";
}

/** A reason in words. */
export function reasonWords(reason) {
  return REASONS[reason] ?? plain(reason);
}

function plain(name) {
  return String(name ?? "").replaceAll("_", " ");
}

/** A whole number. */
export function count(number) {
  return whole.format(number);
}

/** A number in at most six characters. */
export function brief(number) {
  return number < 10_000 ? count(number) : short.format(number);
}

/** US dollars, of millionths of them. */
export function dollars(micros) {
  return money.format(micros / 1e6);
}

/** How much of a limit, in the unit that its name says. */
export function amount(limitName, number, format = count) {
  return limitName.startsWith("US dollars") ? dollars(number) : format(number);
}

/** The name of a limit, as short as a bar has room for. */
export function limitWords(name) {
  return name
    .replace("requests in flight", "in flight")
    .replace(" per Pacific day", " / day")
    .replace(" per 10 minutes", " / 10 min")
    .replace(" per minute", " / min")
    .replace(" per second", " / s")
    .replace(" per month", " / month");
}

/** A number and what is counted. */
export function several(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A span of time as a countdown shows it. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${String(seconds % 60).padStart(2, "0")} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} days`;
}

/** The time of day of an instant in milliseconds. */
export function timeOfDay(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

/** Day and time of an instant in milliseconds. */
export function dayAndTime(at) {
  return new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** The Pacific date of an instant in milliseconds, as YYYY-MM-DD. */
export function pacificDate(at) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: "America/Los_Angeles" }).format(at);
}
