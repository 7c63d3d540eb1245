//! Secrets that lie outside of the configuration and the files beside it: what a program prints, and what Vault keeps.
//!
//! The configuration refers to them; here they are fetched, all that it refers to at once. What goes wrong is told in words
//! that hold nothing of what was fetched.

mod command;
mod last;
mod reference;
mod vault;

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};

use crate::secret::Secret;

pub use last::LastValues;
pub use reference::{BadReference, Reference};
pub use vault::{Login, Vault};

/// How many are fetched at a time.
const AT_ONCE: usize = 8;

/// How secrets are fetched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a program may take.
    pub command_timeout: Duration,
    /// The Vault that is asked, if there is one.
    pub vault: Option<Vault>,
}

/// What came of fetching, by the text of the reference.
pub type Fetched = HashMap<String, Result<Secret, String>>;

/// Fetches all of them, and returns when the last one is here or has failed. It has a runtime and a thread of its own,
/// so it may be called from anywhere that may wait.
pub fn fetch(references: HashMap<String, Reference>, settings: &Settings) -> Fetched {
    if references.is_empty() {
        return Fetched::new();
    }
    let written: Vec<String> = references.keys().cloned().collect();
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok::<_, std::io::Error>(runtime.block_on(fetch_all(references, settings)))
        });
        fetching.join()
    });
    match fetched {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(error)) => failed(written, &format!("cannot be fetched: {error}")),
        Err(_) => failed(written, "cannot be fetched: fetching it failed within keybroker"),
    }
}

fn failed(written: Vec<String>, why: &str) -> Fetched {
    written.into_iter().map(|written| (written, Err(why.to_owned()))).collect()
}

async fn fetch_all(references: HashMap<String, Reference>, settings: &Settings) -> Fetched {
    let vault = match &settings.vault {
        Some(vault) if references.values().any(Reference::is_of_vault) => Some(vault.session().await),
        _ => None,
    };
    let fetching = references.into_iter().map(|(written, reference)| {
        let vault = &vault;
        async move {
            let text = match &reference {
                Reference::Command(command) => command::run(command, settings.command_timeout).await,
                Reference::Vault { mount, path, field } => match vault {
                    Some(Ok(session)) => session.read(mount, path, field).await,
                    Some(Err(why)) => Err(why.clone()),
                    None => Err("is in Vault, which cannot be asked by what [vault] says".to_owned()),
                },
            };
            (written, text)
        }
    });
    stream::iter(fetching).buffer_unordered(AT_ONCE).collect().await
}
