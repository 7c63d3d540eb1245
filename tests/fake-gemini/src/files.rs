//! Files: they belong to the project whose key began their upload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::bodies::{self, ErrorBody};
use super::call::{Query, key_of};
use super::connection::Line;
use super::keyring::KeyRecord;
use super::shared::Shared;

const LARGEST_FILE: usize = 200 * 1024 * 1024;

/// All files of a server.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<HashMap<String, File>>);

#[derive(Debug, Clone)]
struct File {
    project: Arc<str>,
    display_name: String,
    mime_type: String,
    // None until the upload is over.
    bytes: Option<u64>,
}

impl Files {
    fn all(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Whether a body names a file that this project did not make.
    pub(crate) fn forbids(&self, project: &str, body: &Value) -> bool {
        match body {
            Value::String(text) => {
                let id = text.rsplit_once("files/").map(|(_, id)| id);
                id.is_some_and(|id| self.all().get(id).is_some_and(|file| &*file.project != project))
            }
            Value::Array(items) => items.iter().any(|item| self.forbids(project, item)),
            Value::Object(fields) => fields.values().any(|field| self.forbids(project, field)),
            _ => false,
        }
    }
}

impl File {
    fn json(&self, base: &str, id: &str) -> Value {
        json!({
            "name": format!("files/{id}"),
            "displayName": self.display_name,
            "mimeType": self.mime_type,
            "sizeBytes": self.bytes.unwrap_or_default().to_string(),
            "uri": format!("{base}/files/{id}"),
            "state": "ACTIVE",
            "source": "UPLOADED",
        })
    }
}

/// Where uploads begin and go on.
pub(crate) fn uploads(version: &'static str) -> Router<Arc<Shared>> {
    Router::new()
        .route(
            "/files",
            post(
                async move |State(shared): State<Arc<Shared>>,
                            ConnectInfo(line): ConnectInfo<Line>,
                            RawQuery(query): RawQuery,
                            headers: HeaderMap,
                            body: Bytes| {
                    let query = query.unwrap_or_default();
                    settle(upload(&shared, version, &query, &headers, &body), &line).await
                },
            ),
        )
        .layer(DefaultBodyLimit::max(LARGEST_FILE))
}

/// Files that are there.
pub(crate) fn routes(version: &'static str) -> Router<Arc<Shared>> {
    let one = async move |State(shared): State<Arc<Shared>>,
                          ConnectInfo(line): ConnectInfo<Line>,
                          Path(id): Path<String>,
                          headers: HeaderMap| {
        let file = caller(&shared, &headers).and_then(|caller| {
            let file = shared.files.all().get(&id).cloned().filter(|file| file.project == caller.project);
            file.ok_or_else(bodies::file_forbidden)
        });
        settle(file.map(|file| axum::Json(file.json(&base(&headers, version), &id)).into_response()), &line)
            .await
    };
    let delete = async move |State(shared): State<Arc<Shared>>,
                             ConnectInfo(line): ConnectInfo<Line>,
                             Path(id): Path<String>,
                             headers: HeaderMap| {
        let gone = caller(&shared, &headers).and_then(|caller| {
            let mut files = shared.files.all();
            let own = files.get(&id).is_some_and(|file| file.project == caller.project);
            if own { files.remove(&id).map(drop) } else { None }.ok_or_else(bodies::file_forbidden)
        });
        settle(gone.map(|()| axum::Json(json!({})).into_response()), &line).await
    };
    let list = async move |State(shared): State<Arc<Shared>>,
                           ConnectInfo(line): ConnectInfo<Line>,
                           headers: HeaderMap| {
        let own = caller(&shared, &headers).map(|caller| {
            let base = base(&headers, version);
            let files = shared.files.all();
            let own = files.iter().filter(|(_, file)| file.project == caller.project && file.bytes.is_some());
            let own: Vec<_> = own.map(|(id, file)| file.json(&base, id)).collect();
            axum::Json(json!({ "files": own })).into_response()
        });
        settle(own, &line).await
    };
    Router::new().route("/files", get(list)).route("/files/{id}", get(one).delete(delete))
}

/// An upload in two steps, as the official SDKs make it: one says what comes, one brings it.
fn upload(
    shared: &Shared,
    version: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, ErrorBody> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let command = text("x-goog-upload-command");
    let base = base(headers, version);
    if command.contains("start") {
        let caller = caller(shared, headers)?;
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = said["file"]["displayName"].as_str().or_else(|| said["file"]["display_name"].as_str());
        let mut files = shared.files.all();
        let id = format!("fake-file-{:04}", files.len());
        let file = File {
            project: caller.project,
            display_name: name.unwrap_or_default().to_owned(),
            mime_type: text("x-goog-upload-header-content-type").to_owned(),
            bytes: None,
        };
        files.insert(id.clone(), file);
        let host = text("host");
        let url = format!("http://{host}/upload/{version}/files?upload_id={id}&upload_protocol=resumable");
        let headers = [("x-goog-upload-url", url), ("x-goog-upload-status", "active".to_owned())];
        return Ok((headers, axum::Json(json!({}))).into_response());
    }
    let id = query.split('&').find_map(|pair| pair.strip_prefix("upload_id="));
    let mut files = shared.files.all();
    let file = id.and_then(|id| Some((id, files.get_mut(id)?)));
    let (id, file) = file.ok_or_else(|| bodies::bad_request("There is no such upload."))?;
    file.bytes = Some(file.bytes.unwrap_or_default() + body.len() as u64);
    if command.contains("finalize") {
        let body = axum::Json(json!({ "file": file.json(&base, id) }));
        return Ok(([("x-goog-upload-status", "final")], body).into_response());
    }
    Ok(([("x-goog-upload-status", "active")], StatusCode::OK).into_response())
}

fn caller(shared: &Shared, headers: &HeaderMap) -> Result<KeyRecord, ErrorBody> {
    let key = key_of(headers, &Query::default())?;
    shared.keyring.find(key).filter(|record| record.disabled_as.is_none()).ok_or_else(bodies::invalid_key)
}

fn base(headers: &HeaderMap, version: &str) -> String {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("http://{host}/{version}")
}

async fn settle(outcome: Result<Response, ErrorBody>, line: &Line) -> Response {
    match outcome {
        Ok(response) => response,
        Err(error) => answer::send(Answer::Error(error), line).await,
    }
}
