//! The way for tests to steer the fake and to ask it what it saw.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::fault::FaultRule;
use super::journal::LogPage;
use super::keyring::KeyChange;
use super::shared::Shared;
use super::verdict::Verdict;

/// One thing, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

/// The routes under `/control`.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/verdict", get(verdict))
        .route("/log", get(log))
        .route("/faults", get(list_faults).post(add_faults).delete(clear_faults))
        .route("/reset", post(reset))
        .route("/keys", post(change_keys))
}

async fn verdict(State(shared): State<Arc<Shared>>) -> Json<Verdict> {
    Json(shared.verdict())
}

async fn log(State(shared): State<Arc<Shared>>, Query(Since { since }): Query<Since>) -> Json<LogPage> {
    Json(shared.journal.page(since))
}

async fn list_faults(State(shared): State<Arc<Shared>>) -> Json<Vec<FaultRule>> {
    Json(shared.faults.list())
}

async fn add_faults(State(shared): State<Arc<Shared>>, Json(rules): Json<OneOrMany<FaultRule>>) -> Response {
    let rules = rules.into_vec();
    if let Some(complaint) = rules.iter().find_map(FaultRule::complaint) {
        return refuse(complaint);
    }
    shared.faults.add(rules);
    StatusCode::NO_CONTENT.into_response()
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.faults.clear();
    StatusCode::NO_CONTENT
}

async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.reset();
    StatusCode::NO_CONTENT
}

async fn change_keys(
    State(shared): State<Arc<Shared>>,
    Json(changes): Json<OneOrMany<KeyChange>>,
) -> Response {
    for change in changes.into_vec() {
        if !shared.keyring.apply(change) {
            return refuse("a key that is not known needs a project");
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

fn refuse(complaint: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": complaint}))).into_response()
}
