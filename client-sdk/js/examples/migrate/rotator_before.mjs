import { ApiError, GoogleGenAI } from "@google/genai";

const keys = ["fake-key-0000", "fake-key-0001", "fake-key-0002"];

/** @param {string} question */
async function ask(question) {
  for (const apiKey of [...keys]) {
    keys.push(...keys.splice(0, 1)); // In turn.
    try {
      const ai = new GoogleGenAI({ apiKey });
      return (await ai.models.generateContent({ model: "gemini-2.5-flash", contents: question })).text;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 429)) throw error;
    }
  }
  throw new Error("every key was refused");
}

for (const river of ["Nile", "Amazon", "Yangtze"]) {
  console.log(await ask(`Where does the ${river} begin?`));
}
