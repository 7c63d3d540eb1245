// What an operator does, each after a question. The broker decides who may.

import { ApiError, post } from "./api.js";
import { askForKey, askForRotation, confirm, toast } from "./dialogs.js";
import { several } from "./words.js";

const WORDS = {
  enable: {
    title: (id) => `Enable key ${id}?`,
    text: "It is leased again from now on.",
    yes: "Enable key",
    done: (id) => `Key ${id} is enabled.`,
  },
  disable: {
    title: (id) => `Disable key ${id}?`,
    text: "It is leased no more until it is enabled. Leases that are out can still be used and reported.",
    yes: "Disable key",
    done: (id) => `Key ${id} is disabled.`,
    reason: true,
    grave: true,
  },
  drain: {
    title: (id) => `Drain key ${id}?`,
    text: "It is leased no more. It is draining until the last lease of it is reported or has expired, and then drained.",
    yes: "Drain key",
    done: (id) => `Key ${id} is draining.`,
    reason: true,
    grave: true,
  },
};

/** The actions on a pool; `changed()` is called after each that was done. */
export function actions(poolOf, changed) {
  const call = async (path, body, query) => {
    const answer = await post(path, body, query);
    changed();
    return answer;
  };
  const keyPath = (key) => `v1/pools/${encodeURIComponent(poolOf())}/keys/${encodeURIComponent(key.id)}`;

  return {
    onKey(what, key) {
      const path = keyPath(key);
      if (what === "reset") {
        confirm({
          title: `Reset the cooldowns of key ${key.id}?`,
          text: `Cooldowns of the key, its project ${key.project} and its billing account end now. What was counted stays counted.`,
          yes: "Reset cooldowns",
          act: async () => {
            const { resetCount = 0 } = await call(`${path}:resetCooldowns`, {});
            toast(`${several(resetCount, "cooldown")} ended.`);
          },
        });
        return;
      }
      if (what === "rotate") {
        askForRotation(key.id, async (secret) => {
          if (secret === "") throw new ApiError(400, "Give the text of the new API key.");
          await call(`${path}:rotate`, { apiKey: secret });
          toast(`Key ${key.id} is rotated.`);
        });
        return;
      }
      const words = WORDS[what];
      confirm({
        ...words,
        title: words.title(key.id),
        remove: what === "drain" && key.runTime,
        act: async ({ reason, remove }) => {
          const body = words.reason && reason ? { reason } : {};
          if (remove) body.removeWhenDrained = true;
          await call(`${path}:${what}`, body);
          toast(words.done(key.id));
        },
      });
    },

    resetPool() {
      const pool = poolOf();
      confirm({
        title: `Reset all cooldowns of pool ${pool}?`,
        text: "All cooldowns of the pool end now, also of keys that Google refused. What was counted stays counted.",
        yes: "Reset all cooldowns",
        grave: true,
        act: async () => {
          const { resetCount = 0 } = await call(`v1/pools/${encodeURIComponent(pool)}:resetCooldowns`, {});
          toast(`${several(resetCount, "cooldown")} ended.`);
        },
      });
    },

    addKey() {
      const pool = poolOf();
      askForKey(pool, async ({ secret, id, project, tier, weight }) => {
        if (secret === "") throw new ApiError(400, "Give the text of the API key.");
        const key = { apiKey: secret };
        if (project) key.project = project;
        if (tier) key.tier = tier;
        if (weight) key.weight = Number(weight);
        const made = await call(`v1/pools/${encodeURIComponent(pool)}/keys`, key, { keyId: id });
        toast(`Key ${made.name.slice(made.name.lastIndexOf("/") + 1)} is added.`);
      });
    },
  };
}
