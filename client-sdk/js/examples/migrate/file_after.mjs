import { createGenAI } from "keybroker/genai";

const ai = createGenAI(process.env.KEYBROKER_BROKER ?? "127.0.0.1:50051", { deadline: 300_000 });

/** @param {string} question */
async function ask(question) {
  return (await ai.models.generateContent({ model: "gemini-2.5-flash", contents: question })).text;
}

for (const river of ["Nile", "Amazon", "Yangtze"]) {
  console.log(await ask(`Where does the ${river} begin?`));
}
