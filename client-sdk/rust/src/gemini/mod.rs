//! stub
pub struct Gemini;
pub struct GeminiBuilder;
pub struct GeminiError;
