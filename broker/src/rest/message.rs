//! A request of HTTP as a message of the contract, by the JSON rules of proto3.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment, Track};
use tonic::Status;

use super::routes::{Body, Captured, Route};
use crate::grpc::bad_request;

/// The message that a request means.
///
/// # Errors
/// INVALID_ARGUMENT with the field that is wrong; nothing of its value.
pub(super) fn read(
    route: &Route,
    captured: Captured<'_>,
    query: &str,
    body: &[u8],
    descriptor: &MessageDescriptor,
) -> Result<DynamicMessage, Status> {
    let mut fields = match route.body {
        Body::None => Map::new(),
        Body::Whole => object(body, "the body")?,
        Body::Field(field) => Map::from_iter([(field.to_owned(), Value::Object(object(body, field)?))]),
    };
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        put_text(&mut fields, descriptor, &name, &text)?;
    }
    if let Some((field, text)) = captured {
        put(&mut fields, field, Value::String(text.to_owned()))?;
    }
    let mut track = Track::new();
    let fields = serde_path_to_error::Deserializer::new(Value::Object(fields), &mut track);
    DynamicMessage::deserialize(descriptor.clone(), fields).map_err(|error| {
        let field = known_part(&track.path(), descriptor);
        let field = if field.is_empty() { "the request" } else { &field };
        wrong(field, &format!("does not fit {}: {}", descriptor.name(), redact(&error.to_string())))
    })
}

/// The path to a field as the contract names it, as far as the contract does: what else stands in it may be a key.
fn known_part(path: &Path, descriptor: &MessageDescriptor) -> String {
    let mut known = String::new();
    let mut within = Some(descriptor.clone());
    for segment in path {
        match segment {
            Segment::Seq { index } => known.push_str(&format!("[{index}]")),
            Segment::Map { key } => {
                let Some(field) = within.as_ref().and_then(|message| field_of(message, key)) else { break };
                if !known.is_empty() {
                    known.push('.');
                }
                known.push_str(field.name());
                // The keys of a map are chosen by whoever asks.
                within = if field.is_map() { None } else { field.kind().as_message().cloned() };
            }
            Segment::Enum { .. } | Segment::Unknown => break,
        }
    }
    known
}

/// The object that a body holds; an empty body is an empty one.
fn object(body: &[u8], field: &str) -> Result<Map<String, Value>, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong(field, "is not an object of JSON; write {\"field\": value}")),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            Err(wrong(
                field,
                &format!("is not JSON (line {line}, column {column}); write {{\"field\": value}}"),
            ))
        }
    }
}

/// Puts the text of a parameter in its place, as the type of the field wants it.
fn put_text(
    fields: &mut Map<String, Value>,
    descriptor: &MessageDescriptor,
    name: &str,
    text: &str,
) -> Result<(), Status> {
    let field = field_of(descriptor, name);
    let field = field.ok_or_else(|| {
        let known: Vec<String> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
        wrong("the query", &format!("names a parameter that is not known; known are: {}", known.join(", ")))
    })?;
    let value = match field.kind() {
        Kind::Bool => match text {
            "true" | "" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(wrong(name, "is not true or false")),
        },
        Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask" => {
            Value::String(camel_case(text))
        }
        _ => Value::String(text.to_owned()),
    };
    if !field.is_list() {
        return put(fields, name, value);
    }
    match fields.entry(field.name().to_owned()).or_insert_with(|| Value::Array(Vec::new())) {
        Value::Array(values) => values.push(value),
        _ => return Err(wrong(name, "is given twice")),
    }
    Ok(())
}

/// Paths of a mask as JSON has them; those of the contract are taken too.
fn camel_case(paths: &str) -> String {
    let mut parts = paths.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let mut letters = part.chars();
        let head = letters.next().map(|letter| letter.to_ascii_uppercase());
        done + &head.into_iter().chain(letters).collect::<String>()
    })
}

fn field_of(descriptor: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let field = descriptor.get_field_by_name(first).or_else(|| descriptor.get_field_by_json_name(first))?;
    match (rest, field.kind()) {
        (None, _) => Some(field),
        (Some(rest), Kind::Message(message)) => field_of(&message, rest),
        (Some(_), _) => None,
    }
}

/// Puts a value at a path of fields. What is there already stays if it is the same.
fn put(fields: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), Status> {
    match path.split_once('.') {
        Some((first, rest)) => match fields.entry(first).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => put(inner, rest, value),
            _ => Err(wrong(first, "is not an object")),
        },
        None => match fields.insert(path.to_owned(), value) {
            Some(before) if Some(&before) != fields.get(path) => {
                Err(wrong(path, "is said twice, and not the same; the path says it already"))
            }
            _ => Ok(()),
        },
    }
}

fn wrong(field: &str, what: &str) -> Status {
    bad_request(vec![(field.to_owned(), what.to_owned())])
}

/// An error of the JSON reader without the values that it quotes: they may be keys.
fn redact(text: &str) -> String {
    let mut redacted = String::new();
    for (number, part) in text.split('"').enumerate() {
        if number > 0 {
            redacted.push('"');
        }
        redacted.push_str(if number % 2 == 1 { "…" } else { part });
    }
    let quoted = redacted.split('\'').enumerate().map(|(number, part)| {
        let is_name = part.len() <= 40 && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if number % 2 == 1 && !is_name { "…" } else { part }
    });
    quoted.collect::<Vec<_>>().join("'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_may_name_fields_as_the_contract_does() {
        assert_eq!(camel_case("lease_ttl,sendWithin,limits"), "leaseTtl,sendWithin,limits");
        assert_eq!(camel_case("*"), "*");
    }

    #[test]
    fn an_error_quotes_no_value() {
        assert_eq!(
            redact(r#"invalid type: string "AQ.fake", expected i32"#),
            r#"invalid type: string "…", expected i32"#
        );
        assert_eq!(redact("unrecognized field name 'colour'"), "unrecognized field name 'colour'");
        assert_eq!(redact("unrecognized field name 'AQ.fake-key'"), "unrecognized field name '…'");
    }
}
