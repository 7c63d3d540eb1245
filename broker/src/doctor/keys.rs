//! Keys: each is asked for what costs nothing.

use futures_util::{StreamExt, stream};

use super::finding::Check;
use crate::{
    catalogue::{Catalogue, Key, Project},
    gemini::Signal,
    prober::{Finding, client, probe},
};

/// How many probes are under way at once.
const AT_ONCE: usize = 8;

pub(super) async fn check(catalogue: &Catalogue) -> Check {
    let mut check = Check::of("keys");
    let probing = &catalogue.probing;
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            let fix = "check the certificates of this system";
            check.error(
                "gemini-unreachable",
                &probing.base_url,
                format!("TLS cannot be set up: {error}"),
                fix,
            );
            return check;
        }
    };
    let keys: Vec<(&Project, &Key)> = catalogue.keys().collect();
    let client = &client;
    let probes = keys.iter().map(|(project, key)| async move {
        (*project, *key, probe(client, &probing.base_url, &probing.model, &key.secret).await)
    });
    let mut found: Vec<_> = stream::iter(probes).buffer_unordered(AT_ONCE).collect().await;
    found.sort_by(|one, other| one.1.id.cmp(&other.1.id));
    let well = found.iter().filter(|(.., finding)| *finding == Finding::Well).count();
    check.seen = format!("{well} of {} work, asked at {}", keys.len(), probing.base_url);
    let silent =
        found.iter().filter(|(.., finding)| *finding == Finding::Unclear(Signal::NetworkFault)).count();
    if silent > 0 {
        let what = format!("gave no answer to {silent} of {} probes", keys.len());
        let fix =
            "check the way to Google (proxy, firewall, DNS), and [probing] base_url; --offline asks nothing";
        check.error("gemini-unreachable", &probing.base_url, what, fix);
    }
    for (project, key, finding) in found {
        let place = format!("key {} {} of project {}", key.id, key.secret, project.id);
        match finding {
            Finding::Well | Finding::Unclear(Signal::NetworkFault) => {}
            Finding::Unwell(signal) => {
                check.error("key-refused", place, format!("Google refuses it: {signal}"), of_key(signal));
            }
            Finding::Unclear(signal) => match of_project(signal) {
                Some(fix) => {
                    check.error("project-refused", place, format!("Google refuses it: {signal}"), fix)
                }
                None => {
                    let fix = "ask again later; docs/answers.md says what each answer means";
                    check.warning(
                        "key-unclear",
                        place,
                        format!("the answer says nothing of it: {signal}"),
                        fix,
                    );
                }
            },
        }
    }
    check
}

fn of_key(signal: Signal) -> &'static str {
    match signal {
        Signal::KeyLeaked => "delete it at Google and put a new one in its place: others may have it",
        Signal::KeySuspended => "see the project's mail from Google; take the key out until it is resolved",
        Signal::KeyRestricted => {
            "let the key call the Generative Language API from this host, in Google's console"
        }
        Signal::KeyBinding => "make a key of Google AI Studio, or bind this one to a service account",
        _ => "compare it with Google AI Studio, and replace it if it is not there",
    }
}

fn of_project(signal: Signal) -> Option<&'static str> {
    Some(match signal {
        Signal::ProjectDisabled => "enable the Generative Language API for the project, and its billing",
        Signal::SpendCap => "raise the project's monthly cap, or wait for the next month",
        Signal::CreditDepleted => "add credit to the billing account",
        Signal::RegionUnsupported => "run the workers where Google serves the API",
        Signal::ModelNotOffered | Signal::ModelClosed => {
            "set [probing] model to one that the project may use"
        }
        _ => return None,
    })
}
