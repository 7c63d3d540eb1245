import { GoogleGenAI } from "@google/genai";

const ai = new GoogleGenAI({}); // The key is in GEMINI_API_KEY.
const answer = await ai.models.generateContent({ model: "gemini-2.5-flash", contents: "Name three rivers." });
console.log(answer.text);
