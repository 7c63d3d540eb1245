//! Consumers' plans and usage, with real brokers on both ledgers: who may use how much, and what is told
//! of it afterwards, by gRPC and by the command line.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::process::{Command, Output};

use jiff::{Timestamp, ToSpan, civil::Date};
use keybroker::ledger::steady::CLOCK_MARGIN;
use keybroker_proto::v1::{
    AcquireRequest, Constraints, Lease, LeaseReport, QueryUsageRequest, QueryUsageResponse, Success,
    TransportError, Usage, UsageDimension, UsageRow, lease_report::Outcome, transport_error::Kind,
};
use keybroker_tests::{
    harness::{
        api::{Api, Details, MODEL, ask, not_sent, reported},
        broker::binary,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use serde_json::Value;
use tonic::{Code, Status};

/// A token of input costs a millionth of a dollar, one of output two.
const CONFIG: &str = r#"
[[prices]]
input_per_million = 1
output_per_million = 2

[[plans]]
name = "soft"
mode = "soft"
requests_per_minute = 2

[[plans]]
name = "hard"
requests_per_minute = 3

[[consumers]]
id = "spender"
plan = "soft"

[[consumers]]
id = "saver"
plan = "hard"

[[pools]]
send_within = "100ms"

[[projects]]
id = "alpha"
keys = [ { id = "a", secret = "fake-key-for-tests-alpha-000000000000000" } ]

[[projects]]
id = "beta"
keys = [ { id = "b", secret = "fake-key-for-tests-beta-0000000000000000" } ]
"#;

on_both_ledgers!(
    two_consumers_over_two_keys_and_two_models_give_exact_rows,
    a_request_over_a_soft_plan_is_served_flagged_and_counted,
    a_hard_plan_refuses_over_all_keys_and_names_the_consumer_and_the_instant,
    the_default_plan_refuses_the_21st_request_of_a_minute,
    a_plan_that_is_off_limits_nobody,
    csv_and_json_hold_the_same_numbers,
    every_field_of_a_query_is_checked,
);

async fn take(api: &Api, consumer: &str, project: &str, model: &str) -> Lease {
    let constraints = Constraints { project: project.to_owned(), ..Constraints::default() };
    let request = AcquireRequest {
        consumer: consumer.to_owned(),
        input_tokens: 100,
        output_tokens: 50,
        constraints: Some(constraints),
        ..ask(model)
    };
    api.acquire(request).await.unwrap()
}

fn used(lease: &Lease, input: i64, output: i64) -> LeaseReport {
    let usage = Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() };
    reported(&lease.lease_id, Outcome::Success(Success { usage: Some(usage) }))
}

fn cancelled(lease: &Lease) -> LeaseReport {
    let error = TransportError { kind: Kind::Cancelled.into(), ..TransportError::default() };
    reported(&lease.lease_id, Outcome::TransportError(error))
}

/// What is used in all tests that look at rows: by two consumers and one who does not say.
async fn use_some(api: &Api) {
    let nobody = AcquireRequest { permits: Some(3), ..ask("m1") };
    let constraints = Constraints { project: "alpha".to_owned(), ..Constraints::default() };
    let nobody = AcquireRequest { constraints: Some(constraints), ..nobody };
    let nobody = api.acquire(nobody).await.unwrap();
    let ann = [take(api, "ann", "alpha", "m1").await, take(api, "ann", "alpha", "m1").await];
    let unsent = take(api, "ann", "beta", "m2").await;
    let ben = take(api, "ben,\"2nd\"", "beta", "m2").await;
    let reports = vec![
        used(&nobody, 7, 0),
        used(&ann[0], 10, 5),
        used(&ann[1], 20, 0),
        // It is counted once all the same.
        used(&ann[0], 10, 5),
        not_sent(&unsent.lease_id),
        cancelled(&ben),
    ];
    for report in reports {
        api.report(report).await.unwrap();
    }
}

const ALL_BUT_DATE: [UsageDimension; 6] = [
    UsageDimension::Pool,
    UsageDimension::Consumer,
    UsageDimension::Project,
    UsageDimension::Key,
    UsageDimension::QuotaModel,
    UsageDimension::Outcome,
];

fn today() -> Date {
    Timestamp::now().in_tz("America/Los_Angeles").unwrap().date()
}

/// Asks for yesterday and today, so that no midnight gets in between.
fn query(by: &[UsageDimension]) -> QueryUsageRequest {
    QueryUsageRequest {
        parent: "pools/-".to_owned(),
        from_date: today().yesterday().unwrap().to_string(),
        group_by: by.iter().map(|by| (*by).into()).collect(),
        page_size: 1000,
        ..QueryUsageRequest::default()
    }
}

async fn try_query(api: &Api, query: QueryUsageRequest) -> Result<QueryUsageResponse, Status> {
    api.admin().query_usage(query).await.map(tonic::Response::into_inner)
}

async fn rows(api: &Api, query: QueryUsageRequest) -> Vec<UsageRow> {
    try_query(api, query).await.unwrap().rows
}

/// What a row is about, then its numbers.
fn spoken(row: &UsageRow) -> (String, [i64; 7], &str) {
    let UsageRow { pool, consumer, project, key_id, quota_model, outcome, .. } = row;
    let about = format!("{pool}/{consumer}/{project}/{key_id}/{quota_model}/{outcome}");
    let tokens = [row.input_tokens, row.output_tokens, row.total_tokens];
    let numbers =
        [row.leases, row.requests, tokens[0], tokens[1], tokens[2], row.spend_micros, row.requests_over_plan];
    (about, numbers, &row.spend_usd)
}

async fn two_consumers_over_two_keys_and_two_models_give_exact_rows(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    assert_eq!(rows(&rig.api, query(&[])).await, []);
    let before = today();
    use_some(&rig.api).await;
    let all = rows(&rig.api, query(&ALL_BUT_DATE)).await;
    let found: Vec<_> = all.iter().map(spoken).collect();
    let expected = [
        ("default//alpha/a/m1/ok".to_owned(), [1, 3, 7, 0, 7, 7, 0], "0.000007"),
        ("default/ann/alpha/a/m1/ok".to_owned(), [2, 2, 30, 5, 35, 40, 0], "0.00004"),
        ("default/ann/beta/b/m2/not_sent".to_owned(), [1, 0, 0, 0, 0, 0, 0], "0"),
        ("default/ben,\"2nd\"/beta/b/m2/cancelled".to_owned(), [1, 1, 100, 50, 150, 200, 0], "0.0002"),
    ];
    assert_eq!(found, expected);

    // One at a time, the same rows come.
    let (mut paged, mut request) = (Vec::new(), QueryUsageRequest { page_size: 1, ..query(&ALL_BUT_DATE) });
    loop {
        let page = try_query(&rig.api, request.clone()).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        paged.extend(page.rows);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);

    let by_date = rows(&rig.api, query(&[UsageDimension::Date])).await;
    let leases: i64 = by_date.iter().map(|row| row.leases).sum();
    assert_eq!(leases, 5);
    for row in by_date {
        let date: Date = row.date.parse().unwrap();
        assert!((before..=today()).contains(&date) && row.consumer.is_empty(), "{row:?}");
    }
    for (what, wanted, leases) in [
        ("consumer", QueryUsageRequest { consumer: Some("ann".to_owned()), ..query(&[]) }, 3),
        ("nobody", QueryUsageRequest { consumer: Some(String::new()), ..query(&[]) }, 1),
        ("project", QueryUsageRequest { project: "alpha".to_owned(), ..query(&[]) }, 3),
        ("key", QueryUsageRequest { key_id: "b".to_owned(), ..query(&[]) }, 2),
        ("model", QueryUsageRequest { quota_model: "models/m2".to_owned(), ..query(&[]) }, 2),
        ("outcome", QueryUsageRequest { outcome: "ok".to_owned(), ..query(&[]) }, 3),
        ("pool", QueryUsageRequest { parent: "pools/default".to_owned(), ..query(&[]) }, 5),
    ] {
        let found: i64 = rows(&rig.api, wanted).await.iter().map(|row| row.leases).sum();
        assert_eq!(found, leases, "{what}");
    }
}

async fn a_request_over_a_soft_plan_is_served_flagged_and_counted(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let mut flagged = Vec::new();
    for project in ["alpha", "beta", "alpha", "beta"] {
        let lease = take(&rig.api, "spender", project, MODEL).await;
        flagged.push(lease.over_plan);
        rig.api.report(used(&lease, 1, 1)).await.unwrap();
    }
    // What is given back is not counted as over the plan.
    let lease = take(&rig.api, "spender", "alpha", MODEL).await;
    flagged.push(lease.over_plan);
    rig.api.report(not_sent(&lease.lease_id)).await.unwrap();
    assert_eq!(flagged, [false, false, true, true, true]);
    let found = rows(&rig.api, query(&[UsageDimension::Consumer])).await;
    assert_eq!((found[0].leases, found[0].requests, found[0].requests_over_plan), (5, 4, 2));
}

async fn a_hard_plan_refuses_over_all_keys_and_names_the_consumer_and_the_instant(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    // Sub-buckets of a minute are whole seconds; the first charge ends this long after the end of its own.
    let ends_after = |at: i64| (at.div_euclid(1000) + 1) * 1000 + 60_000 + 100 + CLOCK_MARGIN;
    let asked = Timestamp::now().as_millisecond();
    let first = take(&rig.api, "saver", "alpha", MODEL).await;
    let granted = Timestamp::now().as_millisecond();
    let more = [take(&rig.api, "saver", "beta", "m1").await, take(&rig.api, "saver", "alpha", "m2").await];
    assert_eq!([&first.key_id, &more[0].key_id, &more[1].key_id], ["a", "b", "a"]);

    let request = || AcquireRequest { consumer: "saver".to_owned(), ..ask("m3") };
    let before = Timestamp::now().as_millisecond();
    let refused = rig.api.acquire(request()).await.unwrap_err();
    let after = Timestamp::now().as_millisecond();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = Details::of(&refused);
    assert_eq!((details.reason.as_str(), details.spent), ("QUOTA_EXHAUSTED", vec!["consumer saver".into()]));
    let instant: i64 = details.metadata["retry_at_unix_ms"].parse().unwrap();
    assert!((ends_after(asked)..=ends_after(granted)).contains(&instant), "{instant}");
    let wait = i64::try_from(details.retry_after.unwrap().as_millis()).unwrap();
    assert!((before..=after).contains(&(instant - wait)), "{instant} {wait}");

    // Others are not concerned; what is given back can be had again.
    take(&rig.api, "ann", "alpha", MODEL).await;
    rig.api.acquire(ask("m3")).await.unwrap();
    rig.api.report(not_sent(&more[0].lease_id)).await.unwrap();
    let again = rig.api.acquire(request()).await.unwrap();
    assert!(!again.over_plan);
    rig.api.acquire(request()).await.unwrap_err();
}

async fn the_default_plan_refuses_the_21st_request_of_a_minute(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let request = |consumer: &str| AcquireRequest { consumer: consumer.to_owned(), ..ask(MODEL) };
    for _ in 0..20 {
        assert!(!rig.api.acquire(request("guest")).await.unwrap().over_plan);
    }
    let refused = rig.api.acquire(request("guest")).await.unwrap_err();
    assert_eq!(Details::of(&refused).spent, ["consumer guest"]);
    assert!(refused.message().contains("requests per minute"), "{refused}");
    rig.api.acquire(request("another")).await.unwrap();
    rig.api.acquire(request("")).await.unwrap();
}

async fn a_plan_that_is_off_limits_nobody(backing: Backing) {
    let rig = Rig::start(backing, &format!("default_plan = \"off\"\n{CONFIG}")).await;
    for _ in 0..25 {
        let request = AcquireRequest { consumer: "guest".to_owned(), ..ask(MODEL) };
        let lease = rig.api.acquire(request).await.unwrap();
        rig.api.report(used(&lease, 1, 0)).await.unwrap();
    }
    // Its usage is recorded all the same.
    assert_eq!(rows(&rig.api, query(&[UsageDimension::Consumer])).await[0].requests, 25);
}

#[tokio::test]
async fn usage_survives_a_broker_that_is_killed() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    use_some(&rig.api).await;
    let before = rows(&rig.api, query(&[])).await;
    rig.restart().await;
    assert_eq!(rows(&rig.api, query(&[])).await, before);
    // And goes on where it was.
    let lease = take(&rig.api, "ann", "alpha", "m1").await;
    rig.api.report(used(&lease, 1, 1)).await.unwrap();
    let found = rows(&rig.api, query(&ALL_BUT_DATE)).await;
    assert_eq!(spoken(&found[1]).1, [3, 3, 31, 6, 37, 43, 0]);
}

#[tokio::test]
async fn usage_is_one_sum_over_all_brokers() {
    let rig = Rig::start(Backing::Redis, CONFIG).await;
    let (_other, other) = rig.beside("other.toml", CONFIG).await;
    let (mine, theirs) =
        (take(&rig.api, "ann", "alpha", "m1").await, take(&other, "ann", "alpha", "m1").await);
    // Any broker settles any lease.
    other.report(used(&mine, 10, 5)).await.unwrap();
    rig.api.report(used(&theirs, 20, 0)).await.unwrap();
    for api in [&rig.api, &other] {
        let found = rows(api, query(&ALL_BUT_DATE)).await;
        assert_eq!(found.len(), 1);
        assert_eq!(spoken(&found[0]).1, [2, 2, 30, 5, 35, 40, 0]);
    }
}

fn usage(rig: &Rig, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("keybroker"));
    command.arg("usage").args(arguments).env("KEYBROKER_BROKER", &rig.broker.grpc).output().unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

async fn csv_and_json_hold_the_same_numbers(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let from = today().yesterday().unwrap().to_string();
    assert_eq!(out(&usage(&rig, &["--json"])).split_whitespace().collect::<String>(), "[]");
    use_some(&rig.api).await;
    for by in ["day,pool,consumer,project,key,model,outcome", "consumer,date", "outcome"] {
        let arguments = |form| ["--from", &from, "--by", by, form].map(str::to_owned);
        let run = |form| {
            let arguments = arguments(form);
            out(&usage(&rig, &arguments.each_ref().map(String::as_str)))
        };
        let json: Vec<Value> = serde_json::from_str(&run("--json")).unwrap();
        let text = run("--csv");
        assert!(text.ends_with("\r\n"), "{text:?}");
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let names = csv.headers().unwrap().clone();
        assert_eq!(names.len(), by.split(',').count() + 8);
        let read: Vec<Value> = csv
            .records()
            .map(|record| {
                let record = record.unwrap();
                let value = |name: &str, text: &str| match text.parse::<i64>() {
                    Ok(number) if name != "spend_usd" => Value::from(number),
                    _ => Value::from(text),
                };
                let fields = names.iter().zip(&record);
                Value::Object(fields.map(|(name, text)| (name.to_owned(), value(name, text))).collect())
            })
            .collect();
        assert_eq!(read, json);
        let leases: i64 = json.iter().map(|row| row["leases"].as_i64().unwrap()).sum();
        assert_eq!(leases, 5, "{by}");
    }
    let ben: Vec<Value> =
        serde_json::from_str(&out(&usage(&rig, &["--from", &from, "--outcome", "cancelled", "--json"])))
            .unwrap();
    assert_eq!((&ben[0]["consumer"], &ben[0]["spend_micros"]), (&"ben,\"2nd\"".into(), &200.into()));

    let table = out(&usage(&rig, &["--from", &from, "--by", "consumer,model"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..4], ["CONSUMER", "MODEL", "LEASES", "REQUESTS"]);
    assert_eq!(lines[2], ["ann", "m1", "2", "2", "30", "5", "35", "0.00004", "0"]);
    assert_eq!(lines[5], ["total", "5", "6", "137", "55", "192", "0.000247", "0"]);
}

async fn every_field_of_a_query_is_checked(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let with = |change: &dyn Fn(&mut QueryUsageRequest)| {
        let mut request = query(&[]);
        change(&mut request);
        request
    };
    let text = |text: &str| text.to_owned();
    let day = |back: i32| today().checked_sub(back.days()).unwrap().to_string();
    let cases: Vec<(&str, &str, QueryUsageRequest)> = vec![
        ("parent", "pools/default", with(&|it| it.parent = String::new())),
        ("parent", "pools/default", with(&|it| it.parent = text("default"))),
        ("from_date", "YYYY-MM-DD", with(&|it| it.from_date = text("yesterday"))),
        ("from_date", "YYYY-MM-DD", with(&|it| it.from_date = text("20260714"))),
        ("from_date", "earlier", with(&|it| (it.from_date, it.to_date) = (day(1), day(2)))),
        ("from_date", "400 days", with(&|it| it.from_date = day(402))),
        ("to_date", "YYYY-MM-DD", with(&|it| it.to_date = text("2026-02-30"))),
        ("to_date", "400 days", with(&|it| (it.from_date, it.to_date) = (day(100), day(-301)))),
        ("consumer", "128 visible", with(&|it| it.consumer = Some("c".repeat(129)))),
        ("consumer", "visible ASCII", with(&|it| it.consumer = Some(text("a\u{1b}[2J")))),
        ("project", "letters", with(&|it| it.project = text("no id"))),
        ("key_id", "letters", with(&|it| it.key_id = text("no/id"))),
        ("quota_model", "letters", with(&|it| it.quota_model = text("no model"))),
        ("outcome", "unreported", with(&|it| it.outcome = text("success"))),
        ("group_by[1]", "QUOTA_MODEL", with(&|it| it.group_by = vec![1, 9])),
        ("group_by[0]", "QUOTA_MODEL", with(&|it| it.group_by = vec![0])),
        ("page_size", "negative", with(&|it| it.page_size = -1)),
        ("page_token", "next_page_token", with(&|it| it.page_token = text("garbage"))),
    ];
    for (field, part, request) in cases {
        let refused = try_query(&rig.api, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let details = Details::of(&refused);
        assert_eq!(details.field_names(), [field], "{details:?}");
        assert!(details.fields[0].1.contains(part), "{details:?}");
    }
    let all = with(&|it| {
        (it.from_date, it.key_id, it.outcome, it.page_size) = (text("x"), text("/"), text("x"), -1);
    });
    let details = Details::of(&try_query(&rig.api, all).await.unwrap_err());
    assert_eq!(details.field_names(), ["page_size", "from_date", "key_id", "outcome"]);
    // The widest query there is; and days to come are nothing special.
    rows(&rig.api, with(&|it| it.from_date = day(399))).await;
    rows(&rig.api, with(&|it| it.to_date = day(-7))).await;
    let unknown = try_query(&rig.api, with(&|it| it.parent = text("pools/bach"))).await.unwrap_err();
    assert_eq!((unknown.code(), Details::of(&unknown).reason.as_str()), (Code::NotFound, "UNKNOWN_POOL"));

    // A token goes on with its own query alone.
    use_some(&rig.api).await;
    let first = try_query(&rig.api, with(&|it| it.page_size = 1)).await.unwrap();
    let token = first.next_page_token;
    for request in [
        with(&|it| (it.page_token, it.group_by) = (token.clone(), vec![UsageDimension::Key.into()])),
        with(&|it| (it.page_token, it.outcome) = (token.clone(), text("ok"))),
        with(&|it| (it.page_token, it.to_date) = (token.clone(), day(-1))),
        with(&|it| (it.page_token, it.parent) = (token.clone(), text("pools/default"))),
    ] {
        let details = Details::of(&try_query(&rig.api, request).await.unwrap_err());
        assert_eq!(details.field_names(), ["page_token"]);
    }
    rows(&rig.api, with(&|it| it.page_token = token.clone())).await;

    let named = AcquireRequest { consumer: text("a\nb"), ..ask(MODEL) };
    let refused = rig.api.acquire(named).await.unwrap_err();
    assert_eq!(Details::of(&refused).field_names(), ["consumer"]);

    for (arguments, code, part) in [
        (&["--from", "soon", "--key", "no id"][..], 1, "from_date"),
        (&["--pool", "bach"], 1, "\"bach\" is not configured"),
        (&["--by", "colour"], 2, "consumer"),
        (&["--csv", "--json"], 2, "--json"),
    ] {
        let output = usage(&rig, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part) && output.stdout.is_empty(), "{said}");
    }
    rig.still_serves().await;
}
