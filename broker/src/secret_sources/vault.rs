//! Secrets in HashiCorp Vault or OpenBao, in a key-value store of version 2.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::CONTENT_TYPE, redirect::Policy};
use secrecy::zeroize::{Zeroize, Zeroizing};
use serde_json::{Value, json};
use url::Url;

use crate::secret::Secret;

/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How long is waited before what failed for a moment is tried again.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1000)];
/// The most of an answer that is read.
const LARGEST: usize = 1 << 20;

/// A Vault and how to be let in.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Its address, without a path.
    pub address: Url,
    /// As whom.
    pub login: Login,
    /// The namespace, of those that have some.
    pub namespace: Option<String>,
    /// Where the store is mounted; without it the first part of each path says so.
    pub mount: Option<String>,
    /// Certificates of authorities in PEM form, beside those of the system.
    pub authorities: Option<String>,
}

/// How to be let in.
#[derive(Debug, Clone)]
pub enum Login {
    /// With a token.
    Token(Secret),
    /// As a Kubernetes service account.
    Kubernetes {
        /// The role in Vault.
        role: String,
        /// Where the method is mounted.
        mount: String,
        /// The token of the service account.
        token: Secret,
    },
}

/// One who was let in.
pub(super) struct Session<'a> {
    vault: &'a Vault,
    client: Client,
    token: Secret,
}

impl Vault {
    /// Is let in.
    pub(super) async fn session(&self) -> Result<Session<'_>, String> {
        let client = self.client()?;
        let token = match &self.login {
            Login::Token(token) => token.clone(),
            Login::Kubernetes { role, mount, token } => {
                let body = Zeroizing::new(json!({ "role": role, "jwt": token.expose() }).to_string());
                let path = format!("v1/auth/{mount}/login");
                let mut answer = self
                    .ask(|| {
                        self.request(&client, Method::POST, &path)
                            .header(CONTENT_TYPE, "application/json")
                            .body(body.as_bytes().to_vec())
                    })
                    .await
                    .map_err(|why| {
                        format!("is in Vault, {}", why.of("which lets nobody in as that service account"))
                    })?;
                let token = answer["auth"]["client_token"].as_str().map(Secret::from);
                wipe(&mut answer);
                token.ok_or("is in Vault, which let keybroker in without a token")?
            }
        };
        Ok(Session { vault: self, client, token })
    }

    fn client(&self) -> Result<Client, String> {
        let mut builder = Client::builder().timeout(WITHIN).redirect(Policy::limited(2));
        if let Some(authorities) = &self.authorities {
            let certificates = reqwest::Certificate::from_pem_bundle(authorities.as_bytes());
            let certificates = certificates.map_err(|_| "is in Vault, whose ca_file cannot be read")?;
            builder = builder.tls_certs_merge(certificates);
        }
        builder.build().map_err(|_| "is in Vault, for which TLS cannot be set up".to_owned())
    }

    fn request(&self, client: &Client, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/{path}", self.address.as_str().trim_end_matches('/'));
        let request = client.request(method, url).header("x-vault-request", "true");
        match &self.namespace {
            Some(namespace) => request.header("x-vault-namespace", namespace),
            None => request,
        }
    }

    /// The answer to a request; what failed for a moment is tried again.
    async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Value, Failed> {
        let mut pauses = PAUSES.iter();
        loop {
            let asked = once(request()).await;
            match (asked, pauses.next()) {
                (Err(failed), Some(pause)) if failed.passes() => tokio::time::sleep(*pause).await,
                (asked, _) => return asked,
            }
        }
    }
}

impl Session<'_> {
    /// A field of a secret's newest version.
    pub(super) async fn read(&self, mount: &str, path: &str, field: &str) -> Result<Secret, String> {
        let path = format!("v1/{mount}/data/{path}");
        let request = || {
            self.vault.request(&self.client, Method::GET, &path).header("x-vault-token", self.token.expose())
        };
        let answer = self.vault.ask(request).await;
        let mut answer = answer.map_err(|why| {
            format!("is in Vault, {}", why.of("whose token may not read it, or has expired"))
        })?;
        let secret = match &answer["data"]["data"][field] {
            Value::String(text) if !text.trim().is_empty() => Ok(Secret::from(text.trim())),
            Value::Null => Err("is in Vault, in a secret that has no such field"),
            _ => Err("is in Vault, in a field that holds no text"),
        };
        wipe(&mut answer);
        secret.map_err(str::to_owned)
    }
}

/// Why there is no answer.
enum Failed {
    /// Vault said so.
    Status(StatusCode),
    /// It could not be reached, or did not answer in time.
    Unreachable(&'static str),
    /// What it answered cannot be read.
    Unreadable,
}

impl Failed {
    fn passes(&self) -> bool {
        match self {
            Self::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Unreachable(_) => true,
            Self::Unreadable => false,
        }
    }

    /// In words; `forbidden` is what 403 means there.
    fn of(&self, forbidden: &str) -> String {
        match self {
            Self::Status(StatusCode::FORBIDDEN) => forbidden.to_owned(),
            Self::Status(StatusCode::NOT_FOUND) => "which has no secret at that path".to_owned(),
            Self::Status(StatusCode::SERVICE_UNAVAILABLE) => "which is sealed or in maintenance".to_owned(),
            Self::Status(status) => format!("which answered with status {}", status.as_u16()),
            Self::Unreachable(why) => format!("which {why}"),
            Self::Unreadable => "whose answer cannot be read".to_owned(),
        }
    }
}

async fn once(request: RequestBuilder) -> Result<Value, Failed> {
    // The error of a request would name its address, which is configured and may hold a password.
    let unreachable = |error: reqwest::Error| {
        Failed::Unreachable(if error.is_timeout() {
            "did not answer within 10s"
        } else {
            "cannot be reached"
        })
    };
    let mut answer = request.send().await.map_err(unreachable)?;
    if !answer.status().is_success() {
        return Err(Failed::Status(answer.status()));
    }
    let mut body = Zeroizing::new(Vec::new());
    while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + piece.len() > LARGEST {
            return Err(Failed::Unreadable);
        }
        body.extend_from_slice(&piece);
    }
    serde_json::from_slice(&body).map_err(|_| Failed::Unreadable)
}

/// Overwrites every text of an answer.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
