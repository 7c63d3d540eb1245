import { createGenAI } from "keybroker/genai";

const ai = createGenAI(process.env.KEYBROKER_BROKER ?? "127.0.0.1:50051");
const answer = await ai.models.generateContent({ model: "gemini-2.5-flash", contents: "Name three rivers." });
console.log(answer.text);
