//! The binary: parses, binds, and runs until it is told to stop.

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser};
use keybroker::{
    access::{TokenDigest, generate_token},
    cli::{Cli, Command, ConfigArgs},
    config::{self, Sources},
    operate,
    registry::seal,
    serve, worker,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Exec(args) => worker::exec(&args),
        Command::Proxy(args) => worker::proxy(&args),
        Command::Check(args) => check(&args),
        Command::Keys(args) => operate::keys(args),
        Command::Pools(args) => operate::pools(args),
        Command::Reset(args) => operate::reset(args),
        Command::AcceptLoss(args) => operate::accept_loss(args),
        Command::Audit(args) => operate::audit(args),
        Command::Usage(args) => operate::usage(*args),
        Command::GenerateMasterKey => {
            let _ = writeln!(std::io::stdout(), "{}", *seal::generate_master_key());
            ExitCode::SUCCESS
        }
        Command::GenerateToken => {
            let token = generate_token();
            let digest = TokenDigest::of(&token);
            let _ = writeln!(
                std::io::stdout(),
                "{}\n# for the configuration, in one of [[identities]]:\ntoken_sha256 = [\"{digest}\"]",
                *token
            );
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "keybroker", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn check(args: &ConfigArgs) -> ExitCode {
    // A reader that closed the pipe wants no more; nothing is to be done about it.
    match config::load(&Sources::of_process(args.config.clone())) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }
            for line in config::summary(&loaded) {
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}
