//! `keybroker demo`: a broker and a fleet of workers on this host, against a stand-in for Gemini, and proof that
//! they kept within the quota.
//!
//! Brokers and workers are the real ones: workers lease by gRPC through the Rust SDK. What they sent is judged by
//! the stand-in, which shares no code with the broker. Some trouble is played, so that there is something to see.

mod args;
mod redis;
mod show;
mod stage;
mod summary;
mod trouble;
mod watch;
mod workers;

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep_until},
};

pub use args::DemoArgs;
use show::Show;
use stage::Stage;
use summary::Summary;
use trouble::Trouble;
use watch::Watch;
use workers::Workers;

use crate::operate::{Failure, run};

type Fault = Box<dyn Error + Send + Sync>;

/// Nothing new is asked for so long before the end: what was sent by then is answered.
const LAST_CALL: Duration = Duration::from_millis(1_500);

/// Runs the demo.
pub fn demo(args: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(play(args));
            runtime.shutdown_timeout(Duration::from_millis(100));
            run(async { code.map_err(|fault| Failure::Failed(fault.to_string())) })
        }
        Err(error) => run(async { Err(Failure::Failed(error.to_string())) }),
    }
}

async fn play(args: &DemoArgs) -> Result<ExitCode, Fault> {
    let mut stop = Stop::new()?;
    let stage = Stage::set(args).await?;
    let mut show = Show::of(args);
    show.begin(args, &stage)?;
    let mut watch = Watch::begin(&stage)?;
    let mut workers = Workers::start(args, &stage)?;
    let mut trouble = Trouble::default();
    let began = Instant::now();
    let ends = args.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let mut ticks = interval(show.period());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut beats = interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            () = last_call(ends) => break,
            () = stop.wanted() => break,
            event = watch.event() => show.event(&event)?,
            _ = beats.tick() => trouble.goes_on(&stage, began.elapsed()).await?,
            _ = ticks.tick() => {
                let standing = watch.look(&stage, began.elapsed(), &workers).await?;
                show.tick(&standing)?;
            }
        }
    }
    let finished = async {
        workers.finish(&stage, ends).await;
        watch.settled(&stage, began.elapsed(), &workers).await
    };
    let standing = tokio::select! {
        standing = finished => standing?,
        // Whoever asks twice does not want to wait.
        () = stop.wanted() => {
            show.leave();
            return Ok(ExitCode::from(130));
        }
    };
    let summary = Summary::of(args, &standing, &workers);
    show.end(&summary)?;
    stage.end().await;
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn last_call(ends: Option<Instant>) {
    match ends {
        Some(ends) => sleep_until((ends - LAST_CALL).into()).await,
        None => std::future::pending().await,
    }
}

/// The signals that end the demo.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
