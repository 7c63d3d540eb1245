//! `keybroker accept-loss`.

use std::process::ExitCode;

use keybroker_proto::v1::AcceptLossRequest;
use serde_json::json;

use super::{Admin, Failure, args::AcceptLossArgs, print};

pub(super) async fn run(args: AcceptLossArgs) -> Result<ExitCode, Failure> {
    let name = format!("pools/{}", args.pool);
    let mut admin = Admin::connect(&args.broker).await?;
    let request = admin.request(AcceptLossRequest { name: name.clone() });
    admin.client.accept_loss(request).await?;
    if args.broker.json {
        print::json(&json!({ "name": name }))?;
    } else {
        print::line(&format!(
            "{name}: counts of days and months that are lost are not waited for; leases go on when windows of \
             minutes have passed"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
