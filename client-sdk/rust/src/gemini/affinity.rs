//! What belongs to one project: a file, a cached content, a batch or an interaction can be used with keys of the
//! project that made it, and with no other.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use reqwest::{Url, header::HeaderMap};
use serde::Deserialize;
use serde_json::Value;

/// How many things are remembered; the oldest are forgotten first.
const MOST: usize = 10_000;
/// Collections whose members belong to a project.
const COLLECTIONS: [&str; 4] = ["files", "cachedContents", "batches", "interactions"];
/// How an interaction names the one that it goes on from: by its bare id.
const PREVIOUS: &str = "previous_interaction_id";

/// Which project made what, as far as this client saw it.
#[derive(Default)]
pub(crate) struct Affinity(Mutex<Known>);

/// An answer that tells what was made: the thing itself, or the file of an upload.
#[derive(Default, Deserialize)]
struct Made {
    name: Option<String>,
    file: Option<Box<Self>>,
    /// Of an interaction, which has no name.
    id: Option<String>,
}

#[derive(Default)]
struct Known {
    projects: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Affinity {
    /// The project of what the request is about or names, if it is known.
    pub(crate) fn project_of(&self, url: &Url, body: Option<&Value>) -> Option<String> {
        let known = self.known();
        if known.projects.is_empty() {
            return None;
        }
        let named = upload_session(url).into_iter().chain(member(url.path()));
        let found = named.filter_map(|name| known.projects.get(&name)).next();
        found.or_else(|| in_body(&known.projects, body?)).cloned()
    }

    /// Takes in what an answer says was made.
    pub(crate) fn learn(&self, project: &str, headers: &HeaderMap, body: &[u8]) {
        // A key that was not leased is of no known project.
        if project.is_empty() {
            return;
        }
        let session = headers.get("x-goog-upload-url").and_then(|url| url.to_str().ok());
        let session = session.and_then(|url| upload_session(&Url::parse(url).ok()?));
        let made = serde_json::from_slice::<Made>(body).unwrap_or_default();
        let interaction = made.id.map(|id| format!("interactions/{id}"));
        let made = [made.name, made.file.and_then(|file| file.name), interaction].into_iter().flatten();
        let made = made.filter_map(|name| member(&name));
        let mut known = self.known();
        for name in session.into_iter().chain(made) {
            if known.projects.insert(name.clone(), project.to_owned()).is_none() {
                known.order.push_back(name);
            }
            if known.order.len() > MOST
                && let Some(oldest) = known.order.pop_front()
            {
                known.projects.remove(&oldest);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Affinity").field("known", &self.known().projects.len()).finish()
    }
}

fn in_body<'a>(projects: &'a HashMap<String, String>, body: &Value) -> Option<&'a String> {
    match body {
        // Names are short, and what is long is no name.
        Value::String(text) if text.len() < 512 => projects.get(&member(text)?),
        Value::Array(items) => items.iter().find_map(|item| in_body(projects, item)),
        Value::Object(fields) => {
            let previous = fields.get(PREVIOUS).and_then(Value::as_str);
            let previous = previous.and_then(|id| projects.get(&format!("interactions/{id}")));
            previous.or_else(|| fields.values().find_map(|field| in_body(projects, field)))
        }
        _ => None,
    }
}

/// Such as `files/abc`, of a name, a path or a URI.
fn member(text: &str) -> Option<String> {
    let mut parts = text.split(['/', ':', '?']);
    while let Some(part) = parts.next() {
        if COLLECTIONS.contains(&part) {
            return parts.next().filter(|id| !id.is_empty()).map(|id| format!("{part}/{id}"));
        }
    }
    None
}

fn upload_session(url: &Url) -> Option<String> {
    let id = url.query_pairs().find(|(name, _)| name == "upload_id")?.1;
    Some(format!("upload/{id}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_file_is_used_with_the_project_that_made_it() {
        let affinity = Affinity::default();
        let made = json!({ "file": { "name": "files/abc", "uri": "https://host/v1beta/files/abc" } });
        affinity.learn("team-a", &HeaderMap::new(), made.to_string().as_bytes());
        let asks = json!({ "contents": [{ "parts": [{ "fileData": { "fileUri": "https://host/v1beta/files/abc" } }] }] });
        let generate = url("https://host/v1beta/models/m:generateContent");
        assert_eq!(affinity.project_of(&generate, Some(&asks)).as_deref(), Some("team-a"));
        assert_eq!(
            affinity.project_of(&url("https://host/v1beta/files/abc"), None).as_deref(),
            Some("team-a")
        );
        assert_eq!(affinity.project_of(&url("https://host/v1beta/files/other"), None), None);
        assert_eq!(affinity.project_of(&generate, Some(&json!({ "contents": [] }))), None);
    }

    #[test]
    fn an_upload_goes_on_with_the_project_that_began_it() {
        let affinity = Affinity::default();
        let mut headers = HeaderMap::new();
        let session = "https://host/upload/v1beta/files?upload_id=xyz&upload_protocol=resumable";
        headers.insert("x-goog-upload-url", session.parse().unwrap());
        affinity.learn("team-b", &headers, b"");
        assert_eq!(affinity.project_of(&url(session), None).as_deref(), Some("team-b"));
    }

    #[test]
    fn an_interaction_goes_on_with_the_project_that_began_it() {
        let affinity = Affinity::default();
        let made = json!({ "id": "abc", "object": "interaction", "status": "completed" });
        affinity.learn("team-c", &HeaderMap::new(), made.to_string().as_bytes());
        let create = url("https://host/v1/interactions");
        let goes_on = |id: &str| {
            let asks = json!({ "model": "m", "input": "And then?", "previous_interaction_id": id });
            affinity.project_of(&create, Some(&asks))
        };
        assert_eq!(goes_on("abc").as_deref(), Some("team-c"));
        assert_eq!(goes_on("other"), None);
        let looks = url("https://host/v1/interactions/abc/cancel");
        assert_eq!(affinity.project_of(&looks, None).as_deref(), Some("team-c"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let affinity = Affinity::default();
        for number in 0..MOST + 5 {
            let made = json!({ "name": format!("files/{number}") });
            affinity.learn("p", &HeaderMap::new(), made.to_string().as_bytes());
        }
        assert_eq!(affinity.known().projects.len(), MOST);
        assert_eq!(affinity.project_of(&url("https://host/v1beta/files/0"), None), None);
    }
}
