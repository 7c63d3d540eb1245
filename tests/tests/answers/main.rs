//! What Google's answers do to keys, projects and callers: read by a real broker, from what the real SDK
//! reports of a fake Gemini that goes wrong on order.

mod marks;
mod rows;
