//! Answers to calls that go well. They depend on the call and its number alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::call::Understood;
use super::config::{ANY, FakeGeminiConfig};
use super::tokens::tokens_of_bytes;

/// How many pieces a streamed answer comes in.
pub(crate) const PIECES: usize = 3;

fn usage(understood: &Understood, candidate: &str) -> Value {
    let prompt = understood.cost.input_tokens;
    let candidates = tokens_of_bytes(candidate.len() as u64);
    json!({
        "promptTokenCount": prompt,
        "candidatesTokenCount": candidates,
        "totalTokenCount": prompt + candidates,
    })
}

/// One `GenerateContentResponse`; `so_far` is all the text up to and with this piece.
fn piece(model: &str, seq: u64, text: &str, usage: Value, is_last: bool) -> Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if is_last {
        candidate["finishReason"] = "STOP".into();
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": format!("fake-{seq}"),
    })
}

/// The whole answer at once.
pub(crate) fn generated(model: &str, seq: u64, understood: &Understood) -> Value {
    let text = format!("echo: {}", understood.echo);
    piece(model, seq, &text, usage(understood, &text), true)
}

/// The same text in pieces, each with the usage so far.
pub(crate) fn streamed(model: &str, seq: u64, understood: &Understood) -> Vec<Value> {
    let texts = ["echo", ": ", understood.echo.as_str()];
    let mut so_far = String::new();
    let mut pieces = Vec::with_capacity(PIECES);
    for text in texts {
        so_far += text;
        let is_last = pieces.len() + 1 == PIECES;
        pieces.push(piece(model, seq, text, usage(understood, &so_far), is_last));
    }
    pieces
}

/// An interaction that is over.
pub(crate) fn interaction(model: &str, seq: u64, understood: &Understood) -> Value {
    let text = format!("echo: {}", understood.echo);
    let input = understood.cost.input_tokens;
    let output = tokens_of_bytes(text.len() as u64);
    json!({
        "id": format!("fake-interaction-{seq}"),
        "object": "interaction",
        "model": model,
        "role": "model",
        "status": "completed",
        "created": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
        "outputs": [{"type": "text", "text": text}],
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": text}]}],
        "usage": {
            "total_input_tokens": input,
            "total_output_tokens": output,
            "total_tokens": input + output,
        },
    })
}

pub(crate) fn counted(understood: &Understood) -> Value {
    json!({"totalTokens": understood.cost.input_tokens})
}

fn vector() -> Value {
    json!({"values": [0.125, -0.25, 0.5, -1.0]})
}

pub(crate) fn embedded() -> Value {
    json!({"embedding": vector()})
}

pub(crate) fn batch_embedded(understood: &Understood) -> Value {
    let vectors: Vec<Value> = (0..understood.cost.requests).map(|_| vector()).collect();
    json!({"embeddings": vectors})
}

pub(crate) fn model(name: &str) -> Value {
    json!({
        "name": format!("models/{name}"),
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods":
            ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"],
    })
}

/// The models that exist; where any name does, the ones the configuration mentions.
pub(crate) fn models(config: &FakeGeminiConfig, page_size: Option<usize>) -> Value {
    let mentioned = config.aliases.keys().chain(config.limits.0.values().flat_map(|models| models.keys()));
    let names: BTreeSet<&String> = if config.models.is_empty() {
        mentioned.filter(|name| *name != ANY).collect()
    } else {
        config.models.iter().collect()
    };
    let page: Vec<Value> = names.into_iter().take(page_size.unwrap_or(50)).map(|name| model(name)).collect();
    json!({"models": page})
}
