//! `keybroker usage`.

mod args;
mod column;
mod sheet;

use std::process::ExitCode;

use keybroker_proto::v1::{QueryUsageRequest, UsageDimension};

pub use args::UsageArgs;
use column::Columns;
use sheet::Sheet;

use super::{Admin, Failure, print};

/// How many rows are asked for, and held, at a time.
const PAGE_SIZE: i32 = 2000;

pub(super) async fn run(args: UsageArgs) -> Result<ExitCode, Failure> {
    let mut admin = Admin::connect(&args.broker).await?;
    let mut sheet = Sheet::new(&args, Columns::of(&args.by));
    let mut query = request(args);
    loop {
        let answer = admin.client.query_usage(admin.request(query.clone())).await?.into_inner();
        let last = answer.next_page_token.is_empty();
        let mut text = sheet.rows(&answer.rows)?;
        if last {
            text.push_str(&sheet.end());
        }
        // Whoever reads no further wants no further pages.
        if !print::passes(&text)? || last {
            return Ok(ExitCode::SUCCESS);
        }
        query.page_token = answer.next_page_token;
    }
}

fn request(args: UsageArgs) -> QueryUsageRequest {
    QueryUsageRequest {
        parent: format!("pools/{}", args.pool.as_deref().unwrap_or("-")),
        from_date: args.from.unwrap_or_default(),
        to_date: args.to.unwrap_or_default(),
        consumer: args.consumer,
        project: args.project.unwrap_or_default(),
        key_id: args.key.unwrap_or_default(),
        quota_model: args.model.unwrap_or_default(),
        outcome: args.outcome.unwrap_or_default(),
        group_by: args.by.into_iter().map(|by| UsageDimension::from(by).into()).collect(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    }
}
