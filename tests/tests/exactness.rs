//! The promise, with real processes: as many leases as the quota allows, never one more, never one
//! less; judged by a fake Gemini that knows nothing of the broker.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails panics, and shows its figures"
)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdout, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use keybroker_client::{AcquireOptions, Broker, Error};
use keybroker_proto::v1::{InspectPoolRequest, admin_client::AdminClient};
use keybroker_tests::{
    fake_gemini::{Dimension, FakeGemini, FakeGeminiConfig, Fault, FaultRule, Limits, Millis},
    harness::{
        broker::{BrokerOptions, BrokerProcess, binary},
        process::Process,
        redis::RedisServer,
    },
};
use serde_json::Value;

const PROJECTS: usize = 5;
const PER_MINUTE: u64 = 10;
const ALLOWED: usize = PROJECTS * PER_MINUTE as usize;
const MODEL: &str = "gemini-test-flash";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_asks_at_once_exactly_fifty_are_granted_and_the_rest_are_told_the_right_instant() {
    let mut fleet = Fleet::on_redis(4).await;
    let answers = fleet.ask(&["once"; 4], 25, 0, |_, _| ()).await;

    let granted: Vec<_> = answers.iter().filter(|answer| answer["granted"].is_string()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer["refused"] == "QUOTA_EXHAUSTED").collect();
    assert_eq!((granted.len(), refused.len()), (ALLOWED, 100 - ALLOWED), "{answers:?}");
    assert!(granted.iter().all(|answer| answer["status"] == 200));
    for project in 0..PROJECTS {
        let name = format!("project-{project}");
        assert_eq!(granted.iter().filter(|answer| answer["project"] == *name).count() as u64, PER_MINUTE);
    }

    // Once all quota is spent, the next instant is one and the same for whoever asks.
    let ready = refused.iter().map(|answer| answer["ready_unix_ms"].as_u64().unwrap());
    let (earliest, latest) = (ready.clone().min().unwrap(), ready.max().unwrap());
    assert!(latest - earliest < 250, "instants differ by {} ms", latest - earliest);

    let broker = Broker::connect(fleet.brokers[0].url()).unwrap();
    sleep_until(earliest - 300).await;
    let early = broker.acquire(AcquireOptions::new(MODEL)).await;
    assert!(matches!(early, Err(Error::Refused(_))), "granted before its instant: {early:?}");
    sleep_until(latest + 20).await;
    let due = broker.acquire(AcquireOptions::new(MODEL)).await;
    due.expect("granted at its instant").not_sent().await.unwrap();
    fleet.expect_exact(ALLOWED as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_forty_eight_are_asked_for_all_are_granted() {
    let mut fleet = Fleet::on_redis(4).await;
    let answers = fleet.ask(&["once"; 4], 12, 0, |_, _| ()).await;
    assert_eq!(answers.len(), 48);
    assert!(answers.iter().all(|answer| answer["status"] == 200), "{answers:?}");
    fleet.expect_exact(48).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_over_when_a_broker_and_a_worker_are_killed_midway_and_what_the_dead_held_is_charged() {
    let mut fleet = Fleet::on_redis(4).await;
    // Answers take a while, so that the dead hold leases that they cannot report.
    fleet.gemini.add_fault(FaultRule::always(Fault::Latency(Millis::fixed(400))));
    let answers = fleet
        .ask(&["repeat"; 4], 25, 6, |brokers, workers| {
            std::thread::sleep(Duration::from_millis(60));
            brokers[1].process().kill();
            workers[1].kill();
        })
        .await;

    let granted = answers.iter().filter(|answer| answer["granted"].is_string()).count();
    assert!(granted <= ALLOWED, "{granted} of {ALLOWED}");
    let used = used(&fleet.brokers[0]).await;
    assert_eq!(
        used,
        vec![PER_MINUTE as i64; PROJECTS],
        "what the dead held is charged, and all quota is used"
    );
    let sent = fleet.expect_exact_at_most(ALLOWED as u64);
    assert!(sent >= granted as u64, "{sent} arrived, {granted} were granted to the living");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_minutes_over_capacity_on_redis_are_exact_and_full() {
    let fleet = Fleet::on_redis(2).await;
    three_minutes_over_capacity(fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_minutes_over_capacity_on_the_embedded_ledger_are_exact_and_full() {
    let fleet = Fleet::embedded().await;
    three_minutes_over_capacity(fleet).await;
}

async fn three_minutes_over_capacity(mut fleet: Fleet) {
    const SECONDS: u64 = 180;
    let answers = fleet.ask(&["sustain"; 4], 10, SECONDS, |_, _| ()).await;
    let sent = answers.iter().filter(|answer| answer["status"] == 200).count() as u64;
    let missed = answers.iter().filter(|answer| answer["missed"].is_string()).count();
    let verdict = fleet.gemini.verdict();
    println!("{sent} sent, {missed} missed their time; {:?}", verdict.lines);
    assert!(verdict.exact, "{verdict:?}");
    let utilisation = sent as f64 / (ALLOWED as u64 * SECONDS / 60) as f64;
    assert!(utilisation >= 0.95, "utilisation {utilisation}");
    fleet.expect_exact(sent).await;
}

/// A fake Gemini, brokers, and the Redis they share.
struct Fleet {
    gemini: FakeGemini,
    brokers: Vec<BrokerProcess>,
    _redis: Option<RedisServer>,
    _folder: tempfile::TempDir,
}

impl Fleet {
    async fn on_redis(brokers: usize) -> Self {
        let redis = RedisServer::start().unwrap();
        let options = |_| BrokerOptions::default().env("KEYBROKER_REDIS_URL", redis.url());
        Self::start((0..brokers).map(options).collect(), Some(redis)).await
    }

    async fn embedded() -> Self {
        Self::start(vec![BrokerOptions::default()], None).await
    }

    async fn start(options: Vec<BrokerOptions>, redis: Option<RedisServer>) -> Self {
        let limits = Limits { rpm: Some(PER_MINUTE), input_tpm: None, rpd: None };
        let mut config = FakeGeminiConfig::default().with_limits("*", "*", limits);
        let mut file = String::new();
        for project in 0..PROJECTS {
            let key = format!("fake-key-of-project-{project}");
            config = config.with_key(&key, &format!("project-{project}"));
            file.push_str(&format!(
                "[[projects]]\nid = \"project-{project}\"\nkeys = [{{ secret = \"{key}\" }}]\n\
                 limits = [{{ requests_per_minute = {PER_MINUTE} }}]\n"
            ));
        }
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("keybroker.toml");
        std::fs::write(&path, file).unwrap();
        let start = |(number, options): (usize, BrokerOptions)| {
            let mut options = options.arg("--config", path.to_string_lossy());
            if redis.is_none() {
                let data = folder.path().join(format!("data-{number}"));
                options = options.arg("--data-dir", data.to_string_lossy());
            }
            BrokerProcess::start(&options).unwrap()
        };
        let brokers = options.into_iter().enumerate().map(start).collect();
        Self { gemini: FakeGemini::start(config).await.unwrap(), brokers, _redis: redis, _folder: folder }
    }

    /// Starts worker processes, lets all of them begin at once and returns what they print.
    async fn ask(
        &mut self,
        modes: &[&str],
        tasks: usize,
        seconds: u64,
        midway: impl FnOnce(&mut [BrokerProcess], &mut [Process]),
    ) -> Vec<Value> {
        let mut workers = Vec::new();
        let mut outputs = Vec::new();
        for (number, mode) in modes.iter().enumerate() {
            let mut command = Command::new(binary("asker"));
            command.args(["--gemini", &self.gemini.base_url, "--mode", mode]);
            command.args(["--tasks", &tasks.to_string(), "--seconds", &seconds.to_string()]);
            for broker in 0..self.brokers.len() {
                let broker = &self.brokers[(number + broker) % self.brokers.len()];
                command.args(["--broker", &broker.url()]);
            }
            let mut worker =
                Process::start("asker", command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
            let mut output = BufReader::new(worker.child().stdout.take().unwrap());
            let mut ready = String::new();
            output.read_line(&mut ready).unwrap();
            assert!(ready.contains("ready"));
            workers.push(worker);
            outputs.push(output);
        }
        for worker in &mut workers {
            worker.child().stdin.take().unwrap().write_all(b"go\n").unwrap();
        }
        let read = |output: BufReader<ChildStdout>| {
            tokio::task::spawn_blocking(move || {
                let lines = output.lines().map_while(Result::ok);
                // The last line of a killed worker may be cut.
                lines.filter_map(|line| serde_json::from_str(&line).ok()).collect::<Vec<Value>>()
            })
        };
        let reading: Vec<_> = outputs.into_iter().map(read).collect();
        midway(&mut self.brokers, &mut workers);
        let mut answers = Vec::new();
        for output in reading {
            answers.extend(output.await.unwrap());
        }
        for worker in &mut workers {
            worker.wait(Duration::from_secs(10)).unwrap();
        }
        answers
    }

    async fn expect_exact(&self, sent: u64) {
        assert_eq!(self.expect_exact_at_most(sent), sent);
        let mut admin = AdminClient::connect(self.brokers[0].url()).await.unwrap();
        let view = admin.inspect_pool(InspectPoolRequest::default()).await.unwrap().into_inner();
        assert_eq!(view.cooldowns, Vec::new());
    }

    fn expect_exact_at_most(&self, allowed: u64) -> u64 {
        let verdict = self.gemini.verdict();
        let requests = verdict.lines.iter().filter(|line| line.dimension == Dimension::Rpm);
        let (sent, refused) =
            requests.fold((0, 0), |sum, line| (sum.0 + line.admitted, sum.1 + line.refused));
        assert!(verdict.exact, "{verdict:?}");
        assert_eq!(refused, 0);
        assert!(sent <= allowed);
        sent
    }
}

async fn used(broker: &BrokerProcess) -> Vec<i64> {
    let mut admin = AdminClient::connect(broker.url()).await.unwrap();
    let view = admin.inspect_pool(InspectPoolRequest::default()).await.unwrap().into_inner();
    view.limits
        .iter()
        .filter(|limit| limit.limit_name == "requests per minute")
        .map(|limit| limit.used)
        .collect()
}

async fn sleep_until(unix_ms: u64) {
    let at = UNIX_EPOCH + Duration::from_millis(unix_ms);
    tokio::time::sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
}
