// How a pool stands, put together of what the broker tells: projects with their keys, limits and cooldowns.

import { enumName } from "./words.js";

/** What an account is about: "project team-a, model gemini-2.5-flash". */
function parseSubject(subject) {
  const found = /^(key|project|billing account of project|billing account|model|pool) ([^,]*)(?:, model ([^]*))?$/.exec(
    subject,
  );
  if (found === null) return { kind: "other", id: subject, model: "" };
  return { kind: found[1], id: found[2], model: found[3] ?? "" };
}

/** What an account is about, as short as it can be told apart. */
export function aboutWords({ kind, id, model }) {
  switch (kind) {
    case "project":
      return model ? `${id}, ${model}` : `${id}, all models`;
    case "model":
      return `${id}, all projects`;
    case "pool":
      return "The whole pool";
    case "other":
      return id;
    default:
      return model ? `${kind} ${id}, ${model}` : `${kind} ${id}`;
  }
}

/** A state of keys, as the filter has them. */
export const STATES = {
  all: "All states",
  ok: "Can serve",
  cooling: "Cooling down",
  off: "Disabled or drained",
  problem: "With a problem",
};

/**
 * Puts together an `InspectPoolResponse` and the pool's keys. One pass over each: pools have thousands of keys.
 */
export function stand(view, listed) {
  const projects = new Map();
  const keys = new Map();
  const projectOf = (id) => {
    let project = projects.get(id);
    if (project === undefined) {
      project = { id, tier: "", keys: [], limits: [], cooldowns: [] };
      projects.set(id, project);
    }
    return project;
  };
  const keyOf = (id, projectId) => {
    let key = keys.get(id);
    if (key === undefined) {
      const project = projectOf(projectId);
      key = {
        id,
        project: project.id,
        leased: false,
        available: false,
        health: null,
        state: "active",
        preview: "",
        labels: [],
        weight: 1,
        priority: null,
        reason: "",
        problem: "",
        runTime: false,
        removeWhenDrained: false,
        limits: [],
        cooldowns: [],
      };
      keys.set(id, key);
      project.keys.push(key);
    }
    return key;
  };

  for (const one of view.keys ?? []) {
    const key = keyOf(one.keyId, one.project);
    key.leased = true;
    key.available = one.available ?? false;
    key.health = one.health ?? 0;
    projectOf(one.project).tier = enumName(one.tier, "tier_");
  }
  for (const one of listed) {
    const id = one.name.slice(one.name.lastIndexOf("/") + 1);
    const key = keyOf(id, one.project || id);
    key.name = one.name;
    key.state = enumName(one.state, "key_state_");
    key.reason = one.stateReason ?? "";
    key.problem = one.problem ?? "";
    key.preview = one.keyPreview ?? "";
    key.labels = Object.entries(one.labels ?? {});
    key.weight = one.weight ?? 1;
    key.priority = one.priority ?? null;
    key.runTime = one.origin === "ORIGIN_RUN_TIME";
    key.removeWhenDrained = one.removeWhenDrained ?? false;
    const project = projectOf(key.project);
    project.tier ||= enumName(one.tier, "tier_");
  }

  const whole = { limits: [], cooldowns: [] };
  const placeOf = (subject) => {
    const { kind, id } = subject;
    if (kind === "key") return keys.get(id) ?? whole;
    if (kind === "project" || kind === "billing account of project") return projects.get(id) ?? whole;
    return whole;
  };
  const cooldowns = [];
  for (const one of view.cooldowns ?? []) {
    const about = parseSubject(one.subject);
    const cooldown = { ...one, about };
    placeOf(about).cooldowns.push(cooldown);
    cooldowns.push(cooldown);
  }
  const limits = [];
  for (const one of view.limits ?? []) {
    const about = parseSubject(one.subject);
    const number = (name) => (one[name] === undefined ? null : Number(one[name]));
    const limit = {
      subject: one.subject,
      about,
      name: one.limitName ?? "",
      used: Number(one.used ?? 0),
      limit: number("limit"),
      configured: number("configuredLimit"),
      learned: number("learnedLimit"),
      nextFree: one.nextFree,
      exhaustedAt: one.exhaustedAt,
    };
    placeOf(about).limits.push(limit);
    limits.push(limit);
  }

  const totals = { keys: 0, able: 0, cooling: 0, off: 0, problem: 0 };
  const groups = [...projects.values()].filter((project) => project.keys.length > 0);
  for (const project of groups) {
    project.keys.sort((a, b) => order(a.id, b.id));
    project.words =
      `${project.id} ${project.tier} ${[...new Set(project.limits.map((limit) => limit.about.model))].join(" ")}`.toLowerCase();
    for (const key of project.keys) {
      key.status = statusOf(key);
      key.words =
        `${key.id} ${key.preview} ${key.labels.map(([name, value]) => `${name}=${value}`).join(" ")}`.toLowerCase();
      totals.keys += 1;
      if (key.status === "ok") totals.able += 1;
      else totals[key.status] += 1;
    }
  }
  groups.sort((a, b) => order(a.id, b.id));
  return { now: view.now, groups, whole, limits, cooldowns, totals, counters: view.counters ?? {} };
}

const { compare: order } = new Intl.Collator("en", { numeric: true });

function statusOf(key) {
  if (key.state !== "active") return "off";
  if (key.problem !== "" || !key.leased) return "problem";
  return key.available ? "ok" : "cooling";
}

/** How much of a limit is used, 0 to 1; null without a limit. */
export function share(limit) {
  return limit.limit === null ? null : Math.min(1, limit.used / Math.max(1, limit.limit));
}

/** Whether a project or one of its keys is what is looked for; each word must be found. */
export function matches(project, key, words, state) {
  if (state === "cooling") {
    if (key.status !== "cooling" && project.cooldowns.length === 0 && key.cooldowns.length === 0) return false;
  } else if (state !== "all" && key.status !== state) {
    return false;
  }
  return words.every((word) => project.words.includes(word) || key.words.includes(word));
}
