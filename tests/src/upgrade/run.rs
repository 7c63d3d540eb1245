//! One run: start a fleet, replace each broker, replace it back, and ask Gemini and the ledger what they saw.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use keybroker_proto::v1::{InspectPoolRequest, admin_client::AdminClient};
use tempfile::TempDir;

use super::{Calls, Error, balancer::Balancer, load::Load};
use crate::{
    fake_gemini::{Dimension, FakeGemini, FakeGeminiConfig, Fault, FaultRule, Limits, Millis},
    harness::{
        broker::{BrokerOptions, BrokerProcess, binary},
        process::free_port,
        redis::RedisServer,
    },
};

const MODEL: &str = "gemini-test-flash";
const PROJECTS: usize = 5;
/// What each project may do in a minute. It is spread over the minute, and always short.
const PER_MINUTE: u64 = 600;
/// How long Gemini takes for an answer, in milliseconds.
const ANSWER_TAKES: u64 = 50;
/// How much longer than its grace a broker that is told to end may take.
const AT_LAST: Duration = Duration::from_secs(5);

/// What is done.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// The binary that runs at first, such as one of an older version [default: the one of this build]
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The binary that takes its place [default: the one of this build]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// How many brokers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=9))]
    pub brokers: u16,
    /// How many workers ask all the time
    #[arg(long, default_value_t = 90)]
    pub workers: usize,
    /// How long the fleet works before, between and after replacements, in seconds
    #[arg(long, default_value_t = 3)]
    pub between: u64,
    /// How long a broker that is told to end takes reports, at most, in seconds
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub drain_grace: u64,
    /// Without a balancer: the SDK knows all brokers
    #[arg(long)]
    pub direct: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { from: None, to: None, brokers: 3, workers: 90, between: 3, drain_grace: 20, direct: false }
    }
}

/// A broker that was replaced.
#[derive(Debug)]
pub struct Replaced {
    /// Which one.
    pub broker: usize,
    /// The version that serves now.
    pub version: String,
    /// The exit code of the former one.
    pub code: Option<i32>,
    /// How long it took to end.
    pub ended_in: Duration,
    /// How long the next one took to serve.
    pub serves_in: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The calls of workers.
    pub calls: Calls,
    /// Each replacement.
    pub replaced: Vec<Replaced>,
    /// Requests that Gemini served.
    pub served: u64,
    /// Requests that Gemini refused for a quota.
    pub over: u64,
    /// Whether no trailing minute of any project was exceeded.
    pub exact: bool,
    /// The part of the quota that was used.
    pub utilisation: f64,
    /// Leases that nobody reported.
    pub left_out: i64,
}

impl Outcome {
    /// Whether no call failed, no quota was exceeded, and every broker ended in order.
    pub fn is_unnoticed(&self) -> bool {
        self.calls.failed.is_empty()
            && self.exact
            && self.over == 0
            && self.left_out == 0
            && self.replaced.iter().all(|one| one.code == Some(0))
    }
}

/// Replaces each broker of a fleet by another version, and back.
///
/// # Errors
/// If something cannot be started, or does not end.
pub async fn run(plan: &Plan) -> Result<Outcome, Error> {
    let folder = TempDir::with_prefix("keybroker-upgrade")?;
    let config = folder.path().join("keybroker.toml");
    fs::write(&config, catalogue())?;
    let redis = RedisServer::start()?;
    let gemini = FakeGemini::start(google()).await?;
    gemini.add_fault(FaultRule::always(Fault::Latency(Millis::fixed(ANSWER_TAKES))));
    let grace = Duration::from_secs(plan.drain_grace);
    let mut fleet = Fleet { grace, options: Vec::new(), brokers: Vec::new() };
    let from = plan.from.clone().unwrap_or_else(|| binary("keybroker"));
    let to = plan.to.clone().unwrap_or_else(|| binary("keybroker"));
    for _ in 0..plan.brokers {
        fleet.add(&redis, &config, &from)?;
    }
    let addresses: Vec<_> =
        fleet.brokers.iter().map(|broker| (broker.grpc.clone(), broker.http.clone())).collect();
    let balancer = if plan.direct { None } else { Some(Balancer::start(&addresses, folder.path())?) };
    let known = clients(balancer.as_ref(), &fleet);

    let begun = Instant::now();
    let load = Load::start(&known, &gemini.base_url, MODEL, plan.workers)?;
    let between = Duration::from_secs(plan.between);
    tokio::time::sleep(between).await;
    let mut replaced = Vec::new();
    for program in [&to, &from] {
        for number in 0..fleet.brokers.len() {
            replaced.push(tokio::task::block_in_place(|| fleet.replace(number, program))?);
            tokio::time::sleep(between).await;
        }
    }
    let calls = load.end().await?;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;

    let verdict = gemini.verdict();
    let requests = verdict.lines.iter().filter(|line| line.dimension == Dimension::Rpm);
    let (served, over) = requests.fold((0, 0), |sum, line| (sum.0 + line.admitted, sum.1 + line.refused));
    let mut admin = AdminClient::connect(fleet.brokers[0].url()).await?;
    let view = admin.inspect_pool(InspectPoolRequest::default()).await?.into_inner();
    let in_flight = view.limits.iter().filter(|limit| limit.limit_name == "requests in flight");
    Ok(Outcome {
        calls,
        replaced,
        served,
        over,
        exact: verdict.exact,
        utilisation: served as f64 / (PROJECTS as f64 * PER_MINUTE as f64 * minutes),
        left_out: in_flight.map(|limit| limit.used).sum(),
    })
}

/// What each client knows: the balancer, or all brokers, another one first for each.
fn clients(balancer: Option<&Balancer>, fleet: &Fleet) -> Vec<String> {
    if let Some(balancer) = balancer {
        return vec![balancer.url.clone(); fleet.brokers.len()];
    }
    let mut urls: Vec<_> = fleet.brokers.iter().map(BrokerProcess::url).collect();
    let mut known = Vec::new();
    for _ in 0..urls.len() {
        known.push(urls.join(","));
        urls.rotate_left(1);
    }
    known
}

fn google() -> FakeGeminiConfig {
    let limits = Limits { rpm: Some(PER_MINUTE), input_tpm: None, rpd: None };
    (0..PROJECTS).fold(FakeGeminiConfig::default().with_limits("*", "*", limits), |config, project| {
        config.with_key(&format!("fake-key-of-project-{project}"), &format!("project-{project}"))
    })
}

fn catalogue() -> String {
    let project = |number| {
        format!(
            "[[projects]]\nid = \"project-{number}\"\nlimits = [{{ requests_per_minute = {PER_MINUTE}, in_flight = 1000 }}]\n\
             keys = [{{ secret = \"fake-key-of-project-{number}\" }}]\n"
        )
    };
    let pool = "[[pools]]\nname = \"default\"\nsmooth_bursts = true\nsend_within = \"250ms\"\n".to_owned();
    (0..PROJECTS).map(project).fold(pool, |text, project| text + &project)
}

struct Fleet {
    grace: Duration,
    options: Vec<BrokerOptions>,
    brokers: Vec<BrokerProcess>,
}

impl Fleet {
    fn add(&mut self, redis: &RedisServer, config: &Path, program: &Path) -> Result<(), Error> {
        let options = BrokerOptions::default()
            .program(program)
            .at(&format!("127.0.0.1:{}", free_port()?))
            .http_at(&format!("127.0.0.1:{}", free_port()?))
            .arg("--config", config.to_string_lossy())
            .arg("--drain-grace", self.grace.as_secs().to_string())
            .env("KEYBROKER_REDIS_URL", redis.url());
        self.brokers.push(BrokerProcess::start(&options)?);
        self.options.push(options);
        Ok(())
    }

    /// SIGTERM, the end, the next one at the same addresses.
    fn replace(&mut self, number: usize, program: &Path) -> Result<Replaced, Error> {
        let told = Instant::now();
        let former = self.brokers[number].process();
        former.signal("TERM")?;
        let code = former.wait(self.grace + AT_LAST)?.code();
        let ended_in = told.elapsed();
        let ended = Instant::now();
        self.options[number] = self.options[number].clone().program(program);
        self.brokers[number] = BrokerProcess::start(&self.options[number])?;
        Ok(Replaced {
            broker: number,
            version: version(program)?,
            code,
            ended_in,
            serves_in: ended.elapsed(),
        })
    }
}

fn version(program: &Path) -> Result<String, Error> {
    let output = std::process::Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.replaced {
            let code = one.code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
            writeln!(
                f,
                "broker {}: ended with {code} in {:.1} s, {} serves after {:.1} s",
                one.broker,
                one.ended_in.as_secs_f64(),
                one.version,
                one.serves_in.as_secs_f64()
            )?;
        }
        let [half, most, longest] = [0.5, 0.99, 1.0].map(|part| self.calls.within(part).as_millis());
        writeln!(
            f,
            "{} calls answered, {} failed; half within {half} ms, 99 in 100 within {most} ms, the longest {longest} ms",
            self.calls.answered,
            self.calls.failed.values().sum::<u64>()
        )?;
        for (why, times) in &self.calls.failed {
            writeln!(f, "  {times} times: {why}")?;
        }
        writeln!(
            f,
            "Gemini served {}, refused {} for a quota: {}; {:.0} % of the quota used; {} leases unreported",
            self.served,
            self.over,
            if self.exact { "nothing over in any minute" } else { "OVER in some minute" },
            self.utilisation * 100.0,
            self.left_out
        )
    }
}
