//! The commands of workers: they lease on behalf of a program that knows nothing of leases.

mod args;
mod exec;
mod proxy;
mod refusal;

use std::{io::Write, process::ExitCode};

use keybroker_client::Error;

pub(crate) use args::seconds;
pub use args::{ExecArgs, ProxyArgs};

/// The exit code of `exec` where the program was not started, or there was no lease for it.
const NOT_STARTED: u8 = 125;

/// Runs a program with a leased key in its environment.
pub fn exec(args: &ExecArgs) -> ExitCode {
    run(exec::run(args), NOT_STARTED)
}

/// Serves the Gemini API on this host, with leased keys.
pub fn proxy(args: &ProxyArgs) -> ExitCode {
    run(proxy::run(args), 1)
}

/// Why a command did not do what it was told to.
struct Failure {
    text: String,
    code: Option<u8>,
}

impl Failure {
    fn new(text: impl ToString) -> Self {
        Self { text: text.to_string(), code: None }
    }

    fn with_code(text: impl ToString, code: u8) -> Self {
        Self { text: text.to_string(), code: Some(code) }
    }
}

/// What the broker refuses, with the fix of whoever starts a command.
fn in_words(error: &Error) -> String {
    match error {
        Error::Unauthenticated { message } => format!(
            "the broker does not take the credentials of this command, which are not Google's: set KEYBROKER_TOKEN or \
             --token-file, or --tls-cert and --tls-key, to those of one of its identities ({message})"
        ),
        Error::NotPermitted { message } => format!(
            "the broker does not permit this, which is not Google's refusal: use the KEYBROKER_TOKEN or the certificate \
             of an identity that may, or allow this one more in the broker's configuration ({message})"
        ),
        error => error.to_string(),
    }
}

fn run(command: impl Future<Output = Result<u8, Failure>>, failed: u8) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Failure::new(error)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&failure.text);
            ExitCode::from(failure.code.unwrap_or(failed))
        }
    }
}

/// Standard error may be closed; there is nowhere else to say it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "keybroker: {text}");
}
