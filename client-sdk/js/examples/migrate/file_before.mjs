import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { ApiError, GoogleGenAI } from "@google/genai";

const keys = readFileSync("keys.txt", "utf8").split("\n").filter(Boolean);

/** @param {string} question */
async function ask(question) {
  for (let apiKey = keys.shift(); apiKey !== undefined; apiKey = keys.shift()) {
    keys.push(apiKey);
    try {
      const ai = new GoogleGenAI({ apiKey });
      return (await ai.models.generateContent({ model: "gemini-2.5-flash", contents: question })).text;
    } catch (error) {
      if (error instanceof ApiError && error.status === 429) await sleep(60_000);
      else keys.pop(); // A bad key: never again.
    }
  }
  throw new Error("no key is left");
}

for (const river of ["Nile", "Amazon", "Yangtze"]) {
  console.log(await ask(`Where does the ${river} begin?`));
}
