//! The course of the demo: start, watch, stop, sum up.

use std::{error::Error, io::Write, process::ExitCode, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep},
};

use super::{
    fleet::Fleet,
    options::Options,
    setting::Setting,
    snapshot::{Observer, Snapshot, refused_by_gemini},
    summary::Summary,
    view::View,
};
use crate::fake_gemini::{ControlClient, Fault, FaultRule, Millis, Verdict};

type Failure = Box<dyn Error + Send + Sync>;

/// How long an answer of the fake Gemini takes, so that there is something in flight.
const LATENCY: Millis = Millis { min_ms: 200, max_ms: Some(900) };
/// Nothing new is asked for so long before the end: what was sent by then is answered.
const LAST_CALL: Duration = Duration::from_millis(1_300);
/// The end comes so much before the full time, so that a run of whole minutes does not reach into another.
const MARGIN: Duration = Duration::from_millis(100);
/// How often it is checked that everything still runs.
const CHECKS: Duration = Duration::from_millis(500);
/// How long the ledger is asked for leases that are still open.
const REPORTS_PATIENCE: Duration = Duration::from_secs(3);

/// Runs the demo.
pub async fn run(options: Options) -> ExitCode {
    match try_run(&options).await {
        Ok(Some(summary)) if summary.ok => ExitCode::SUCCESS,
        Ok(Some(_)) => ExitCode::FAILURE,
        Ok(None) => ExitCode::from(130),
        Err(failure) => {
            complain(&format!("demo: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// The summary; none if it was interrupted.
async fn try_run(options: &Options) -> Result<Option<Summary>, Failure> {
    let mut view = View::new(options);
    view.begin(options)?;
    // Starting blocks for some tenths of a second.
    let of_start = options.clone();
    let mut setting = tokio::task::spawn_blocking(move || Setting::start(&of_start)).await??;
    let brokers = setting.broker_urls();
    let gemini = ControlClient::new(&setting.gemini);
    gemini.add_fault(&FaultRule::always(Fault::Latency(LATENCY))).await?;
    let observer = Observer::new(options, &brokers, &setting.gemini)?;
    let mut fleet = Fleet::start(options, &brokers, &setting.gemini)?;
    fleet.ids().try_for_each(|worker| setting.watch(worker))?;
    let mut stop = Stop::new()?;

    fleet.begin()?;
    let began = Instant::now();
    let watching = watch(options, &mut setting, &observer, &mut fleet, &mut view, began);
    let watched = tokio::select! {
        watched = watching => Some(watched),
        () = stop.wanted() => None,
    };
    let Some(watched) = watched else {
        view.leave();
        complain(&interrupted(began.elapsed(), gemini.verdict().await.ok()));
        return Ok(None);
    };
    if let Err(failure) = watched {
        view.leave();
        // A part that has ended says more than a call that found nobody.
        setting.check()?;
        return Err(failure);
    }
    fleet.close();
    let ended = Instant::now();
    view.ending();
    // The workers' ends are waited for on a thread, which must not keep the runtime.
    let fleet = tokio::task::spawn_blocking(move || fleet.wait().map(|()| fleet)).await??;
    let (last, verdict) = settled(&observer, &fleet, ended - began).await?;
    let summary = Summary::new(options, ended.elapsed(), &last, &verdict, &fleet.tally());
    view.end(&summary, fleet.tally().failure.as_deref())?;
    Ok(Some(summary))
}

/// Shows how everything stands until the time is over.
async fn watch(
    options: &Options,
    setting: &mut Setting,
    observer: &Observer,
    fleet: &mut Fleet,
    view: &mut View,
    began: Instant,
) -> Result<(), Failure> {
    let end = began + options.length() - MARGIN;
    let mut ticks = interval_at(began + view.period(), view.period());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut checks = interval(CHECKS);
    let last_call = tokio::time::sleep_until(end - LAST_CALL);
    tokio::pin!(last_call);
    let mut called = false;
    while Instant::now() < end {
        tokio::select! {
            () = &mut last_call, if !called => {
                fleet.last_call()?;
                called = true;
            }
            () = tokio::time::sleep_until(end) => break,
            _ = checks.tick() => setting.check()?,
            _ = ticks.tick() => {
                let (snapshot, _) = observer.look(began.elapsed(), &fleet.tally()).await?;
                view.tick(&snapshot)?;
            }
        }
    }
    Ok(())
}

/// How everything stands once no lease is open any more, or after some patience as it is.
async fn settled(observer: &Observer, fleet: &Fleet, ran: Duration) -> Result<(Snapshot, Verdict), Failure> {
    let until = Instant::now() + REPORTS_PATIENCE;
    loop {
        let (snapshot, verdict) = observer.look(ran, &fleet.tally()).await?;
        if snapshot.in_flight == 0 || Instant::now() > until {
            return Ok((snapshot, verdict));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn interrupted(after: Duration, verdict: Option<Verdict>) -> String {
    let after = after.as_secs();
    let seen = verdict.map_or(String::new(), |verdict| {
        let (sent, refused) = (verdict.calls, refused_by_gemini(&verdict));
        format!("\n{sent} requests were sent, {refused} refused by Gemini.")
    });
    format!("demo: interrupted after {after} s, everything is stopped.{seen}")
}

fn complain(text: &str) {
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The signals that end the demo early.
struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        let on = |kind| signal(kind);
        let signals = [on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?];
        Ok(Self { signals })
    }

    async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
