//! The binary: parses, binds, and runs until it is told to stop.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use keybroker::{
    cli::{Cli, Command},
    demo, doctor, operate, serve, tools, worker,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Exec(args) => worker::exec(&args),
        Command::Proxy(args) => worker::proxy(&args),
        Command::Config { command } => tools::config(command),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Keys(args) => operate::keys(args),
        Command::Pools(args) => operate::pools(args),
        Command::Status(args) => operate::status(*args),
        Command::Health(args) => operate::health(args),
        Command::Events(args) => operate::events(*args),
        Command::Lease(args) => operate::lease(*args),
        Command::Reset(args) => operate::reset(args),
        Command::AcceptLoss(args) => operate::accept_loss(args),
        Command::Audit(args) => operate::audit(args),
        Command::Usage(args) => operate::usage(*args),
        Command::GenerateMasterKey { json } => tools::generate_master_key(json),
        Command::GenerateToken { json } => tools::generate_token(json),
        Command::Man(args) => tools::man(&args),
        Command::Completions { shell } => tools::completions(shell, &mut Cli::command()),
    }
}
