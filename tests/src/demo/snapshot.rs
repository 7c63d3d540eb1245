//! How everything stands at an instant, as the brokers and the fake Gemini tell it.

use std::time::Duration;

use futures_util::future::try_join_all;
use keybroker_proto::v1::{Cooldown, InspectPoolRequest, InspectPoolResponse, admin_client::AdminClient};
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};

use super::{options::Options, setting::project, tally::Tally};
use crate::fake_gemini::{ControlClient, Verdict};

/// How long a broker may take to tell how it stands.
const PATIENCE: Duration = Duration::from_secs(5);

/// The demo at an instant. Sums are over all brokers and all workers since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Time since the workers began.
    pub seconds: f64,
    /// Leases that the brokers granted.
    pub granted: i64,
    /// Leases that the brokers refused.
    pub refused_by_broker: i64,
    /// Tasks that wait in a broker now.
    pub waiting: i64,
    /// Leases that are held now.
    pub in_flight: i64,
    /// Requests that arrived at the fake Gemini.
    pub sent: u64,
    /// Those of them that it answered with an error.
    pub refused_by_gemini: u64,
    /// Answers that workers received.
    pub answers: u64,
    /// Requests that the ledger counts now.
    pub used: i64,
    /// Requests a minute that all projects allow.
    pub limit: i64,
    /// Each project.
    pub projects: Vec<ProjectStatus>,
}

/// A project at an instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProjectStatus {
    /// Its name.
    pub project: String,
    /// The id of its key.
    pub key: String,
    /// Requests that the ledger counts now.
    pub used: i64,
    /// Of how many.
    pub limit: i64,
    /// Input tokens that the ledger counts now.
    pub tokens_used: i64,
    /// Of how many.
    pub tokens_limit: i64,
    /// Leases that are held now.
    pub in_flight: i64,
    /// Whether the key may be leased as far as cooldowns go.
    pub available: bool,
    /// Until when and why it may not, in words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<String>,
}

/// Asks the brokers and the fake Gemini.
#[derive(Clone, Debug)]
pub struct Observer {
    brokers: Vec<AdminClient<Channel>>,
    gemini: ControlClient,
    options: Options,
}

impl Observer {
    /// An observer that connects when it is first asked.
    ///
    /// # Errors
    /// If an address is none.
    pub fn new(options: &Options, brokers: &[String], gemini: &str) -> Result<Self, tonic::transport::Error> {
        let connect = |url: &String| {
            Ok(AdminClient::new(Endpoint::from_shared(url.clone())?.timeout(PATIENCE).connect_lazy()))
        };
        let brokers = brokers.iter().map(connect).collect::<Result<_, tonic::transport::Error>>()?;
        Ok(Self { brokers, gemini: ControlClient::new(gemini), options: options.clone() })
    }

    /// How everything stands, and what the fake Gemini has to say so far.
    ///
    /// # Errors
    /// If one of them does not answer.
    pub async fn look(
        &self,
        since_begin: Duration,
        tally: &Tally,
    ) -> Result<(Snapshot, Verdict), Box<dyn std::error::Error + Send + Sync>> {
        let asked = self.brokers.iter().cloned().map(|mut broker| async move {
            broker.inspect_pool(InspectPoolRequest::default()).await.map(tonic::Response::into_inner)
        });
        let (views, verdict) = tokio::join!(try_join_all(asked), self.gemini.verdict());
        let (views, verdict) = (views?, verdict?);
        Ok((snapshot(&self.options, since_begin, &views, &verdict, tally), verdict))
    }
}

/// Requests that the fake Gemini answered with an error, for whatever reason.
pub fn refused_by_gemini(verdict: &Verdict) -> u64 {
    verdict.statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, calls)| calls).sum()
}

fn snapshot(
    options: &Options,
    since_begin: Duration,
    views: &[InspectPoolResponse],
    verdict: &Verdict,
    tally: &Tally,
) -> Snapshot {
    let projects: Vec<_> = (1..=options.projects).map(|number| status(options, number, views)).collect();
    let counters = || views.iter().filter_map(|view| view.counters.as_ref());
    Snapshot {
        seconds: (since_begin.as_secs_f64() * 10.0).round() / 10.0,
        granted: counters().map(|counters| counters.granted).sum(),
        refused_by_broker: counters().map(|counters| counters.refused).sum(),
        waiting: counters().map(|counters| counters.waiting).sum(),
        in_flight: projects.iter().map(|project| project.in_flight).sum(),
        sent: verdict.calls,
        refused_by_gemini: refused_by_gemini(verdict),
        answers: tally.answered,
        used: projects.iter().map(|project| project.used).sum(),
        limit: projects.iter().map(|project| project.limit).sum(),
        projects,
    }
}

/// The brokers share one ledger; but each tells only of models that it was asked for itself, so whichever
/// knows a limit tells it.
fn status(options: &Options, number: u64, views: &[InspectPoolResponse]) -> ProjectStatus {
    let [project, key, _] = project(number);
    let used = |name: &str| {
        let limits = views.iter().flat_map(|view| &view.limits);
        limits
            .filter(|limit| limit.project == project && limit.limit_name == name)
            .map(|limit| limit.used)
            .max()
    };
    let told = |view: &InspectPoolResponse| {
        view.keys.iter().find(|status| status.key_id == key).is_some_and(|status| status.available)
    };
    let cooldown = views.iter().find_map(|view| {
        let mine = |cooldown: &&Cooldown| {
            let subject = cooldown.subject.split(", model").next().unwrap_or_default();
            subject == format!("project {project}") || subject == format!("key {key}")
        };
        view.cooldowns.iter().find(mine).map(|cooldown| in_words(cooldown, view))
    });
    ProjectStatus {
        used: used("requests per minute").unwrap_or_default(),
        limit: options.rpm.cast_signed(),
        tokens_used: used("input tokens per minute").unwrap_or_default(),
        tokens_limit: options.tpm.cast_signed(),
        in_flight: used("requests in flight").unwrap_or_default(),
        available: views.iter().all(told),
        cooldown,
        project,
        key,
    }
}

fn in_words(cooldown: &Cooldown, view: &InspectPoolResponse) -> String {
    let Cooldown { reason, until, probing, .. } = cooldown;
    match (until, &view.now) {
        _ if *probing => format!("probing ({reason})"),
        (Some(until), Some(now)) => format!("{} s ({reason})", (until.seconds - now.seconds).max(0)),
        _ => format!("until reset ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keybroker_proto::v1::{BrokerCounters, KeyStatus, LimitStatus};
    use prost_types::Timestamp;

    use super::*;

    fn view(granted: i64, used: i64) -> InspectPoolResponse {
        let limit = |name: &str, used| LimitStatus {
            project: "project-1".to_owned(),
            limit_name: name.to_owned(),
            used,
            ..LimitStatus::default()
        };
        InspectPoolResponse {
            now: Some(Timestamp { seconds: 100, nanos: 0 }),
            keys: vec![KeyStatus { key_id: "key-1".to_owned(), available: true, ..KeyStatus::default() }],
            limits: vec![limit("requests per minute", used), limit("requests in flight", 2)],
            counters: Some(BrokerCounters { granted, refused: 3, settled: 0, waiting: 1 }),
            ..InspectPoolResponse::default()
        }
    }

    #[test]
    fn counters_add_up_over_brokers_and_the_shared_ledger_does_not() {
        let options = Options::parse_from(["demo", "--projects", "1"]);
        let mut views = [view(5, 7), view(2, 7)];
        // A broker that was not asked yet knows no limits.
        views[0].limits.clear();
        let subject = "project project-1, model gemini-2.5-flash".to_owned();
        let until = Some(Timestamp { seconds: 142, nanos: 0 });
        views[1].cooldowns = vec![Cooldown {
            subject,
            reason: "minute_quota".to_owned(),
            until,
            probing: false,
            ramp_until: None,
        }];
        let tally = Tally { answered: 6, ..Tally::default() };
        let seen = snapshot(&options, Duration::from_millis(1_234), &views, &Verdict::default(), &tally);
        assert_eq!((seen.granted, seen.refused_by_broker, seen.waiting), (7, 6, 2));
        assert_eq!((seen.used, seen.limit, seen.in_flight, seen.answers), (7, 10, 2, 6));
        assert_eq!(seen.projects[0].cooldown.as_deref(), Some("42 s (minute_quota)"));
        assert!(seen.projects[0].available);
        assert_eq!(seen.seconds, 1.2);
    }
}
