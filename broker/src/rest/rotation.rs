//! The paths of brokers that rotate keys by hand, for dashboards that know them: how the keys stand, and a reset. They are
//! made of the calls of `keybroker.v1.Admin`, so whoever may make those may ask here.

use axum::{
    Json,
    body::Bytes,
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tonic::Status;

use super::{Rest, errors, routes::NoRoute};
use crate::{broker::pool_name, grpc::bad_request, server::Peer};

/// The paths, and the one method that each takes.
pub(super) const PATHS: [(&str, Method); 3] = [
    ("/api/gemini/status", Method::GET),
    ("/api/gemini/reset-keys", Method::POST),
    ("/api/chat/api-rotation-status", Method::GET),
];

impl Rest {
    /// Serves a request below `/api`. `?pool=` names a pool other than `default`.
    pub(super) async fn serve_rotation(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
        body: &Bytes,
    ) -> Response {
        let Some((path, takes)) = PATHS.iter().find(|(path, _)| *path == uri.path()) else {
            return errors::no_route(&NoRoute::Path);
        };
        if method != takes {
            return errors::no_route(&NoRoute::Method(vec![takes.clone()]));
        }
        if let Err(status) = self.admit(method, headers, peer) {
            return errors::answer(&status);
        }
        let answered = match *path {
            "/api/gemini/status" => self.standing(uri, headers, peer).await,
            "/api/gemini/reset-keys" => self.reset(uri, headers, peer, body).await,
            _ => self.rotation(uri, headers, peer).await,
        };
        answered.map_or_else(|status| errors::answer(&status), |value| Json(value).into_response())
    }

    async fn standing(&self, uri: &Uri, headers: &HeaderMap, peer: &Peer) -> Result<Value, Status> {
        let pool = pool_of(uri)?;
        let inspect = format!("/v1/pools/{pool}:inspect");
        let view = self.ask(&Method::GET, &inspect, headers, peer, &Bytes::new()).await?;
        let keys = self.all_keys(&pool, headers, peer).await?;
        Ok(standing(&view, &keys))
    }

    /// All keys of a pool, page by page.
    async fn all_keys(&self, pool: &str, headers: &HeaderMap, peer: &Peer) -> Result<Vec<Value>, Status> {
        let (mut keys, mut token) = (Vec::new(), String::new());
        loop {
            let token_text: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let path = format!("/v1/pools/{pool}/keys?pageSize=1000&pageToken={token_text}");
            let mut page = self.ask(&Method::GET, &path, headers, peer, &Bytes::new()).await?;
            if let Some(Value::Array(found)) = page.get_mut("keys").map(Value::take) {
                keys.extend(found);
            }
            token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(keys);
            }
        }
    }

    async fn reset(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
        body: &Bytes,
    ) -> Result<Value, Status> {
        let pool = pool_of(uri)?;
        let path = format!("/v1/pools/{pool}:resetCooldowns");
        let done = self.ask(&Method::POST, &path, headers, peer, body).await?;
        let count = done["resetCount"].as_i64().unwrap_or_default();
        Ok(json!({
            "success": true,
            "reset_count": count,
            "message": format!("{count} cooldowns of the pool {pool} were ended; what was counted stays counted"),
        }))
    }

    async fn rotation(&self, uri: &Uri, headers: &HeaderMap, peer: &Peer) -> Result<Value, Status> {
        let stats = self.standing(uri, headers, peer).await?;
        let (total, available) = (stats["total_keys"].as_i64(), stats["available_keys"].as_i64());
        let message = match (total.unwrap_or_default(), available.unwrap_or_default()) {
            (0, _) => "the pool has no keys".to_owned(),
            (total, 0) => format!("none of {total} keys can serve now"),
            (total, available) => format!("{available} of {total} keys can serve now"),
        };
        Ok(json!({ "enabled": total > Some(0), "stats": stats, "message": message }))
    }
}

/// The pool that a query names.
fn pool_of(uri: &Uri) -> Result<String, Status> {
    let mut pool = String::new();
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != "pool" {
            let text = "names a parameter that is not known; known is: pool";
            return Err(bad_request(vec![("the query".to_owned(), text.to_owned())]));
        }
        pool = value.into_owned();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if pool == "-" || !pool.chars().all(plain) {
        let text = "is not the name of one pool; write letters, digits and . _ -";
        return Err(bad_request(vec![("pool".to_owned(), text.to_owned())]));
    }
    Ok(pool_name(&pool).to_owned())
}

/// How keys stand, in the words of these paths.
fn standing(view: &Value, keys: &[Value]) -> Value {
    let none = Vec::new();
    let statuses = view["keys"].as_array().unwrap_or(&none);
    let status_of = |id: &str| statuses.iter().find(|status| status["keyId"] == id);
    let now = instant(&view["now"]);
    let mut shown = Vec::new();
    let mut current = None;
    for (index, key) in keys.iter().enumerate() {
        let id = key["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
        let status = status_of(id);
        let cooling = status.is_some_and(|status| status["cooling"] == true);
        // One that is not leased at all has no status.
        let failed = cooling || status.is_none() || key["state"] != "KEY_STATE_ACTIVE";
        if view["lastKeyId"] == id && !id.is_empty() {
            current = Some(index);
        }
        let until = status.and_then(|status| instant(&status["coolingUntil"]));
        let remaining = until.zip(now).map(|(until, now)| until.duration_since(now).as_secs_f64().max(0.0));
        shown.push(json!({
            "index": index,
            "key_id": id,
            "key_preview": key["keyPreview"],
            "is_failed": failed,
            "failed_at": status.map_or(&Value::Null, |status| &status["coolingSince"]),
            "cooldown_remaining": remaining,
        }));
    }
    let failed = shown.iter().filter(|key| key["is_failed"] == true).count();
    json!({
        "total_keys": shown.len(),
        "available_keys": shown.len() - failed,
        "failed_keys": failed,
        "current_index": current,
        "keys": shown,
    })
}

fn instant(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// What the OpenAPI document says of these paths.
pub(super) fn document() -> Vec<(&'static str, Value)> {
    let pool = json!([{
        "name": "pool", "in": "query", "description": "a pool other than default",
        "schema": { "type": "string", "pattern": "^[A-Za-z0-9._-]*$" },
    }]);
    let operation = |id: &str, what: &str, schema: Value| {
        json!({
            "operationId": id,
            "summary": what,
            "parameters": pool,
            "responses": {
                "200": { "description": "Done", "content": { "application/json": { "schema": schema } } },
                "default": {
                    "description": "What is wrong",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                },
            },
        })
    };
    let stats = json!({
        "type": "object",
        "required": ["total_keys", "available_keys", "failed_keys", "current_index", "keys"],
        "properties": {
            "total_keys": { "type": "integer" },
            "available_keys": { "type": "integer" },
            "failed_keys": { "type": "integer" },
            "current_index": { "type": ["integer", "null"], "description": "the key that this broker leased last" },
            "keys": { "type": "array", "items": {
                "type": "object",
                "required": ["index", "key_id", "key_preview", "is_failed", "failed_at", "cooldown_remaining"],
                "properties": {
                    "index": { "type": "integer" },
                    "key_id": { "type": "string" },
                    "key_preview": { "type": "string" },
                    "is_failed": { "type": "boolean", "description": "it can serve no model now" },
                    "failed_at": { "type": ["string", "null"], "format": "date-time" },
                    "cooldown_remaining": { "type": ["number", "null"], "description": "in seconds; null if it cools down until somebody acts, or not at all" },
                },
            }},
        },
    });
    let reset = json!({
        "type": "object",
        "required": ["success", "reset_count", "message"],
        "properties": {
            "success": { "type": "boolean" },
            "reset_count": { "type": "integer" },
            "message": { "type": "string" },
        },
    });
    let rotation = json!({
        "type": "object",
        "required": ["enabled", "stats", "message"],
        "properties": { "enabled": { "type": "boolean" }, "stats": stats, "message": { "type": "string" } },
    });
    let mut reset = operation("ResetKeys", "End the cooldowns of a pool", reset);
    reset["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": {
        "type": "object",
        "properties": { "quotaModel": { "type": ["string", "null"] } },
        "additionalProperties": false,
    } } } });
    vec![
        (
            "/api/gemini/status",
            json!({ "get": operation("GeminiStatus", "How the keys of a pool stand", stats) }),
        ),
        ("/api/gemini/reset-keys", json!({ "post": reset })),
        (
            "/api/chat/api-rotation-status",
            json!({ "get": operation("ApiRotationStatus", "Whether keys are rotated, and how they stand", rotation) }),
        ),
    ]
}
