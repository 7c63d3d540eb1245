//! How secrets that lie elsewhere are fetched, as it is written: `[secrets]` and `[vault]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use url::Url;

use super::fault::Findings;
use super::hooks::is_http;
use super::key_text::{Lookup, read_file};
use super::reference;
use super::section::Section;
use super::values::is_this_host;
use crate::secret::Secret;
use crate::secret_sources::{Login, Settings, Vault};

pub(super) const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
pub(super) const DEFAULT_REFRESH: Duration = Duration::from_secs(60);
pub(super) const COMMAND: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
pub(super) const DEFAULT_COMMAND: Duration = Duration::from_secs(10);
/// Where Kubernetes puts the token of a service account.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where Vault's token lies, unless it is said.
pub(super) const DEFAULT_TOKEN: &str = "env:VAULT_TOKEN";
/// Where Vault's way to log in as a service account is mounted, unless it is said.
pub(super) const DEFAULT_KUBERNETES: &str = "kubernetes";

/// How secrets that lie elsewhere are fetched, and how often anew.
#[derive(Debug, Clone)]
pub struct SecretSources {
    /// By what rules they are asked.
    pub settings: Settings,
    /// How often to ask anew.
    pub refresh_every: Duration,
}

impl Default for SecretSources {
    fn default() -> Self {
        let settings = Settings { command_timeout: DEFAULT_COMMAND, vault: None };
        Self { settings, refresh_every: DEFAULT_REFRESH }
    }
}

/// Reads `[secrets]` and `[vault]`.
pub(super) fn read(root: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> SecretSources {
    let mut sources = SecretSources::default();
    if let Some(section) = root.table("secrets", found) {
        section.only(&reference::SECRETS, found);
        if let Some(every) = section.duration("refresh_every", REFRESH, found) {
            sources.refresh_every = every;
        }
        if let Some(timeout) = section.duration("command_timeout", COMMAND, found) {
            sources.settings.command_timeout = timeout;
        }
    }
    if let Some(section) = root.table("vault", found) {
        sources.settings.vault = read_vault(&section, lookup, found);
    }
    sources
}

fn read_vault(section: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> Option<Vault> {
    section.only(&reference::VAULT, found);
    let address = read_address(section, lookup, found);
    // Read before anything that is missing ends this, so that all faults are found at once.
    let namespace = section.text("namespace", found).map(str::to_owned);
    let mount = section.text("mount", found).map(|mount| mount.trim_matches('/').to_owned());
    lookup.vault_mount.clone_from(&mount);
    let login = match section.table("kubernetes", found) {
        Some(kubernetes) => {
            if section.has("token") {
                let fix = "keep one of the two";
                found.fault(section.place_of("token"), "stands beside `kubernetes`", fix);
            }
            read_kubernetes(&kubernetes, lookup, found)
        }
        None => {
            let place = section.place_of("token");
            let written = section.text("token", found).unwrap_or(DEFAULT_TOKEN);
            let token = lookup.text(written, "token", &place, found);
            token.map(|token| Login::Token(Secret::from(token.trim())))
        }
    };
    let authorities = if section.has("ca_file") {
        let what = "the certificates of whoever signed that of Vault, in PEM form";
        Some(lookup.file(section, "ca_file", what, found)?)
    } else {
        None
    };
    Some(Vault {
        address: address?,
        login: login?,
        namespace,
        mount,
        authorities: authorities.map(|text| text.to_string()),
    })
}

fn read_address(section: &Section<'_>, lookup: &Lookup<'_>, found: &mut Findings) -> Option<Url> {
    let of_environment = (lookup.env)("VAULT_ADDR").filter(|address| !address.trim().is_empty());
    let written = if section.has("address") {
        section.text("address", found)?.to_owned()
    } else {
        let Some(address) = of_environment else {
            found.fault(
                section.place(),
                "has no `address`",
                "add address = \"https://vault.internal:8200\", or set VAULT_ADDR",
            );
            return None;
        };
        address
    };
    let bare = |url: &Url| {
        url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let place = section.place_of("address");
    let Some(url) = is_http(written.trim()).filter(bare) else {
        let fix = "write \"https://host:port\" and nothing after it";
        found.fault(place, "is not a plain http or https URL", fix);
        return None;
    };
    if url.scheme() == "http" && !is_this_host(url.host_str()) {
        let fix = "write https://, or an address of this host";
        found.fault(place, "is not https, so tokens and keys could be read on their way", fix);
        return None;
    }
    Some(url)
}

fn read_kubernetes(section: &Section<'_>, lookup: &Lookup<'_>, found: &mut Findings) -> Option<Login> {
    section.only(&reference::KUBERNETES, found);
    let role = section.required_text("role", found);
    let file = section.text("token_file", found).unwrap_or(SERVICE_ACCOUNT);
    // It is read with each fetch, since Kubernetes writes it anew every hour.
    let token = match read_file(&lookup.folder.join(file)) {
        Ok(token) if !token.trim().is_empty() => Some(Secret::from(token.trim())),
        Ok(_) => {
            found.fault(
                section.place_of("token_file"),
                "the file is empty",
                "name the file of a service account's token",
            );
            None
        }
        Err(error) => {
            let problem = format!("the file cannot be read: {error}");
            found.fault(
                section.place_of("token_file"),
                problem,
                "name the file of a service account's token",
            );
            None
        }
    };
    let mount = section.text("mount", found).unwrap_or(DEFAULT_KUBERNETES).trim_matches('/').to_owned();
    Some(Login::Kubernetes { role: role?.to_owned(), mount, token: token? })
}
