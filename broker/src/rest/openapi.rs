//! The OpenAPI document of what is served by HTTP, made from the contract.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use serde_json::{Map, Value, json};

use super::{
    rotation,
    routes::{Body, ROUTES, Route},
};

/// The document; `closed` is whether callers have to say who they are.
pub(super) fn document(admin: &ServiceDescriptor, closed: bool) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut messages = BTreeMap::new();
    for route in &ROUTES {
        let Some(call) = admin.methods().find(|call| call.name() == route.call) else { continue };
        let (path, parameters) = path_of(route);
        let operation = operation(route, &call, parameters, &mut messages);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    paths.extend(rotation::document().into_iter().map(|(path, methods)| (path.to_owned(), methods)));
    let mut schemas = schemas(messages);
    schemas.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "keybroker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "keybroker.v1.Admin as JSON, by the rules of proto3. Errors are google.rpc.Status.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": if closed { json!([{ "bearer": [] }]) } else { json!([{ "bearer": [] }, {}]) },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The path as OpenAPI writes it, and its parameters.
fn path_of(route: &Route) -> (String, Vec<String>) {
    let Some((before, rest)) = route.template.split_once('{') else {
        return (route.template.to_owned(), Vec::new());
    };
    let (variable, after) = rest.split_once('}').unwrap_or((rest, ""));
    let pattern = variable.split_once('=').map_or(variable, |(_, pattern)| pattern);
    let mut parameters = Vec::new();
    let mut last = before.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        if part == "*" {
            let name = last.trim_end_matches('s').to_owned();
            parts.push(format!("{{{name}}}"));
            parameters.push(name);
        } else {
            parts.push(part.to_owned());
        }
        last = part;
    }
    (format!("{before}{}{after}", parts.join("/")), parameters)
}

fn operation(
    route: &Route,
    call: &MethodDescriptor,
    in_path: Vec<String>,
    messages: &mut BTreeMap<String, MessageDescriptor>,
) -> Value {
    let (input, output, streams) = (&call.input(), &call.output(), call.is_server_streaming());
    let captured = route.template.split_once('{').and_then(|(_, rest)| rest.split_once('='));
    let captured = captured.map_or("", |(field, _)| field.split('.').next().unwrap_or_default());
    let in_path = in_path.into_iter().map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
    });
    let taken = |field: &FieldDescriptor| {
        field.name() == captured
            || matches!(route.body, Body::Whole)
            || matches!(route.body, Body::Field(body) if body == field.name())
    };
    let in_query: Vec<Value> = input
        .fields()
        .filter(|field| !taken(field))
        .map(|field| json!({ "name": field.json_name(), "in": "query", "schema": schema_of(&field, messages) }))
        .collect();
    let answer = reference(output, messages);
    let answer = if streams {
        json!({
            "description": format!(
                "Server-sent events: the data of each is one {}; an event of the type error is the last",
                output.name()
            ),
            "content": { "text/event-stream": { "schema": { "type": "string" } } },
        })
    } else {
        json!({ "description": "Done", "content": { "application/json": { "schema": answer } } })
    };
    let mut operation = json!({
        "operationId": route.call,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            "200": answer,
            "default": {
                "description": "What is wrong",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    // Two paths may be one call.
    if route.call == "ResetCooldowns" && route.template.contains("/keys/") {
        operation["operationId"] = json!("ResetCooldownsOfKey");
    }
    let body = match route.body {
        Body::None => return operation,
        // What the path says already is not said again.
        Body::Whole => Some(object(input.fields().filter(|field| field.name() != captured), messages)),
        Body::Field(field) => input.get_field_by_name(field).map(|field| schema_of(&field, messages)),
    };
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": body } } });
    operation
}

/// A reference to a message, which is described later.
fn reference(message: &MessageDescriptor, messages: &mut BTreeMap<String, MessageDescriptor>) -> Value {
    if message.full_name() == "google.protobuf.Empty" {
        return json!({ "type": "object" });
    }
    messages.insert(message.name().to_owned(), message.clone());
    json!({ "$ref": format!("#/components/schemas/{}", message.name()) })
}

/// An object with these fields.
fn object(
    fields: impl Iterator<Item = FieldDescriptor>,
    messages: &mut BTreeMap<String, MessageDescriptor>,
) -> Value {
    let properties: Map<String, Value> =
        fields.map(|field| (field.json_name().to_owned(), schema_of(&field, messages))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn schemas(mut waiting: BTreeMap<String, MessageDescriptor>) -> Map<String, Value> {
    let mut done = Map::new();
    while let Some((name, message)) = waiting.pop_first() {
        let mut found = BTreeMap::new();
        done.insert(name, object(message.fields(), &mut found));
        waiting.extend(found.into_iter().filter(|(name, _)| !done.contains_key(name)));
    }
    done
}

fn schema_of(field: &FieldDescriptor, messages: &mut BTreeMap<String, MessageDescriptor>) -> Value {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let value = entry.map_entry_value_field();
        return json!({ "type": "object", "additionalProperties": one(&value, messages) });
    }
    let one = one(field, messages);
    if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
}

fn one(field: &FieldDescriptor, messages: &mut BTreeMap<String, MessageDescriptor>) -> Value {
    match field.kind() {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Double | Kind::Float => json!({ "type": "number" }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
            json!({ "type": "integer", "format": "int32" })
        }
        // As text, since numbers of JSON are not exact beyond 2^53.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]+$" })
        }
        Kind::Enum(values) => {
            let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
            json!({ "type": "string", "enum": names })
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
            "google.protobuf.Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?s$" }),
            "google.protobuf.FieldMask" => {
                json!({ "type": "string", "description": "names of fields, separated by commas" })
            }
            _ => reference(&message, messages),
        },
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "message", "status"],
            "properties": {
                "code": { "type": "integer", "description": "the status of HTTP" },
                "message": { "type": "string" },
                "status": { "type": "string", "description": "the name of google.rpc.Code" },
                "details": { "type": "array", "items": { "type": "object", "required": ["@type"] } },
            },
        }},
    })
}
