//! A program that runs with a leased key in its environment.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};

use keybroker_client::{ExposeSecret, Lease, Outcome, TransportKind, Usage};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{ExecArgs, Failure, in_words, say};

/// What the official SDKs and others look for.
const VARIABLES: [&str; 2] = ["GEMINI_API_KEY", "GOOGLE_API_KEY"];

pub(super) async fn run(args: &ExecArgs) -> Result<u8, Failure> {
    let broker = args.lease.connect()?;
    let ttl = args.ttl;
    let options = args.lease.options(&args.model).permits(args.permits).input_tokens(args.input_tokens);
    let lease = broker.acquire(options.wait(args.wait).ttl(ttl)).await;
    let lease = lease.map_err(|error| Failure::new(in_words(&error)))?;
    let outcome = with(args, lease).await;
    if broker.close().await.is_err() || broker.reports_lost() > 0 {
        say("the broker could not be told what came of the lease; it ends by itself");
    }
    outcome
}

async fn with(args: &ExecArgs, mut lease: Lease) -> Result<u8, Failure> {
    let mut child = match start(args, &mut lease) {
        Ok(child) => child,
        Err(failure) => {
            // It was marked as sent when its key was asked for, and was not.
            lease.report_in_background(Outcome::NotSent);
            return Err(failure);
        }
    };
    let renewal = lease.auto_renew(args.ttl);
    let status = wait(&mut child).await;
    drop(renewal);
    match status {
        Ok(status) => {
            let code = code_of(status);
            lease.report_in_background(outcome_of(code));
            Ok(code)
        }
        Err(error) => {
            lease.report_in_background(Outcome::transport(TransportKind::Cancelled));
            Err(Failure::new(format!("the program cannot be waited for: {error}")))
        }
    }
}

fn start(args: &ExecArgs, lease: &mut Lease) -> Result<Child, Failure> {
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Failure::new("name a program to run"))?;
    let key = lease.begin_send().map_err(Failure::new)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::inherit());
    for variable in VARIABLES {
        command.env(variable, key.expose_secret());
    }
    command.spawn().map_err(|error| {
        let program = program.to_string_lossy();
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::with_code(format!("{program} was not found"), 127),
            _ => Failure::with_code(format!("{program} cannot be run: {error}"), 126),
        }
    })
}

/// Waits for the program, which is sent the signals that this process is sent.
async fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    let mut asked = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    // Of a terminal the program gets it as well; this process lives on, to report.
    let mut interrupted = signal(SignalKind::interrupt())?;
    loop {
        let passed_on = tokio::select! {
            status = child.wait() => return status,
            _ = asked.recv() => Signal::TERM,
            _ = hung_up.recv() => Signal::HUP,
            _ = interrupted.recv() => continue,
        };
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may have ended just now.
            let _ = kill_process(id, passed_on);
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// A program that failed says nothing about the key: what it was charged stays charged, and nobody is blamed.
fn outcome_of(code: u8) -> Outcome {
    if code == 0 {
        return Outcome::Success(Usage::default());
    }
    let message = format!("the program ended with exit code {code}");
    Outcome::TransportError { kind: TransportKind::Cancelled, message, usage: Usage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_shows_in_the_code() {
        assert_eq!(code_of(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code_of(ExitStatus::from_raw(15)), 128 + 15);
    }
}
