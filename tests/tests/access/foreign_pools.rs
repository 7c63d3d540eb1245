//! What an identity that may not use all pools is told of the others: nothing, not even by an error.

use std::{collections::BTreeSet, process::Command};

use keybroker_proto::v1::{
    CreateKeyRequest, GetKeyRequest, GetPoolRequest, ImportKeysRequest, Key, LeaseReport,
    ListAuditRecordsRequest, ListKeysRequest, ListPoolsRequest, QueryUsageRequest, ReportRequest,
    RotateKeyRequest, UsageDimension, admin_client::AdminClient, key_broker_client::KeyBrokerClient,
    lease_report::Outcome,
};
use keybroker_tests::harness::{broker::binary, redis::RedisServer};
use tonic::{Code, Status, transport::Channel};

use super::{Setting, acquire, identity, of, token, wish};

const MODEL: &str = "gemini-2.5-flash";
/// The text of the key `a1` of the pool `default`.
const FOREIGN_TEXT: &str = "fake-key-of-project-a";
/// What tells of that pool. The ids of calls, which errors hold too, are hexadecimal digits.
const FOREIGN_WORDS: [&str; 4] = ["default", "key a1", "keys/a1", "key ids are unique"];

fn identities() -> String {
    identity("all", "[\"admin\", \"worker\"]", "") + &identity("ops", "[\"admin\"]", "pools = [\"batch*\"]")
}

fn key(project: &str, text: &str) -> Key {
    Key { project: project.to_owned(), api_key: text.to_owned(), ..Key::default() }
}

fn creation(pool: &str, id: &str, key: Key) -> CreateKeyRequest {
    CreateKeyRequest { parent: format!("pools/{pool}"), key_id: id.to_owned(), key: Some(key) }
}

/// A broker, at which keys were created in both pools by turns and leases of both were settled.
struct Used {
    setting: Setting,
    admin: AdminClient<Channel>,
}

impl Used {
    async fn start(redis: Option<&RedisServer>) -> Self {
        let setting = Setting::start_on(redis, &identities());
        let channel = setting.channel().await;
        let mut admin = AdminClient::new(channel.clone());
        for number in 2..5 {
            for (pool, letter) in [("default", "a"), ("batch", "b")] {
                let id = format!("{letter}{number}");
                let key = key(&format!("project-{letter}"), &format!("fake-key-of-{id}-0000"));
                admin.create_key(of("all", creation(pool, &id, key))).await.unwrap();
            }
        }
        for pool in ["default", "batch"] {
            let lease = acquire(channel.clone(), of("all", wish(pool, MODEL, ""))).await.unwrap();
            let report = LeaseReport {
                lease_id: lease.lease_id,
                outcome: Some(Outcome::Success(Default::default())),
                ..LeaseReport::default()
            };
            let reports = ReportRequest { reports: vec![report] };
            KeyBrokerClient::new(channel.clone()).report(of("all", reports)).await.unwrap();
        }
        Self { setting, admin }
    }

    /// All names that a list gives, a few at a time.
    async fn pools(&mut self, who: &str) -> Vec<String> {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = of(who, ListPoolsRequest { page_size: 1, page_token });
            let page = self.admin.list_pools(page).await.unwrap().into_inner();
            names.extend(page.pools.into_iter().map(|pool| pool.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    }

    async fn keys(&mut self, who: &str) -> Vec<String> {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = ListKeysRequest { parent: "pools/-".to_owned(), page_size: 3, page_token };
            let page = self.admin.list_keys(of(who, page)).await.unwrap().into_inner();
            names.extend(page.keys.into_iter().map(|key| key.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    }

    async fn changed(&mut self, who: &str, page_size: i32) -> Vec<String> {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = of(who, ListAuditRecordsRequest { page_size, page_token });
            let page = self.admin.list_audit_records(page).await.unwrap().into_inner();
            assert!(page.records.len() <= usize::try_from(page_size).unwrap());
            names.extend(page.records.into_iter().map(|record| record.resource));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    }

    async fn used(&mut self, who: &str) -> Vec<String> {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = QueryUsageRequest {
                parent: "pools/-".to_owned(),
                group_by: vec![UsageDimension::Pool.into()],
                page_size: 1,
                page_token,
                ..QueryUsageRequest::default()
            };
            let page = self.admin.query_usage(of(who, page)).await.unwrap().into_inner();
            names.extend(page.rows.into_iter().map(|row| row.pool));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    }
}

#[tokio::test]
async fn lists_over_all_pools_hold_what_is_of_the_callers_own() {
    lists_hold_what_is_of_the_callers_own(Used::start(None).await).await;
}

#[tokio::test]
async fn so_do_those_of_the_registry_in_redis() {
    let redis = RedisServer::start().unwrap();
    lists_hold_what_is_of_the_callers_own(Used::start(Some(&redis)).await).await;
}

async fn lists_hold_what_is_of_the_callers_own(mut it: Used) {
    assert_eq!(it.pools("all").await, ["pools/batch", "pools/default"]);
    assert_eq!(it.pools("ops").await, ["pools/batch"]);

    let own = ["b1", "b2", "b3", "b4"].map(|id| format!("pools/batch/keys/{id}"));
    assert_eq!(it.keys("all").await.len(), 8);
    assert_eq!(it.keys("ops").await, own);

    let newest_first: Vec<String> = own[1..].iter().rev().cloned().collect();
    assert_eq!(it.changed("all", 4).await.len(), 6);
    for page_size in [1, 2, 3, 50] {
        assert_eq!(it.changed("ops", page_size).await, newest_first, "{page_size}");
    }

    assert_eq!(it.used("all").await, ["batch", "default"]);
    assert_eq!(it.used("ops").await, ["batch"]);

    // The commands need no --pool.
    for arguments in [&["status"][..], &["keys", "list"], &["pools", "list"], &["usage"], &["audit"]] {
        let mut command = Command::new(binary("keybroker"));
        command.args(arguments).env("KEYBROKER_BROKER", it.setting.broker.url());
        let output = command.env("KEYBROKER_TOKEN", token("ops")).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && text.contains("batch"), "{arguments:?}: {text}");
        assert!(!text.contains("default") && !text.contains("project-a"), "{arguments:?}: {text}");
    }
}

/// An error that tells nothing of the other pool.
fn tells_nothing(status: &Status, code: Code, said: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    let told = format!("{} {:?}", status.message(), String::from_utf8_lossy(status.details()));
    assert!(told.contains(said), "{told}");
    assert!(FOREIGN_WORDS.iter().all(|word| !told.contains(word)), "{told}");
}

#[tokio::test]
async fn what_is_taken_in_another_pool_is_refused_and_not_whose_it_is() {
    let setting = Setting::start(&identities());
    let mut admin = AdminClient::new(setting.channel().await);
    let texts = || key("project-b", "fake-key-of-nobody-0000");
    // One that may use both is told where to look.
    let status = admin.create_key(of("all", creation("batch", "a1", texts()))).await.unwrap_err();
    assert!(status.message().contains("the key id a1 is taken; key ids are unique"), "{status:?}");
    let same = || key("project-b", FOREIGN_TEXT);
    let status = admin.create_key(of("all", creation("batch", "b2", same()))).await.unwrap_err();
    assert!(status.message().contains("is that of the key a1 already"), "{status:?}");
    let project = || key("project-a", "fake-key-of-nobody-0000");
    let status = admin.create_key(of("all", creation("batch", "b2", project()))).await.unwrap_err();
    assert!(status.message().contains("is in the pool default"), "{status:?}");

    let status = admin.create_key(of("ops", creation("batch", "a1", texts()))).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(status.message(), "the key id a1 is taken");
    let status = admin.create_key(of("ops", creation("batch", "b2", same()))).await.unwrap_err();
    tells_nothing(&status, Code::AlreadyExists, "is that of another key already");
    let status = admin.create_key(of("ops", creation("batch", "b2", project()))).await.unwrap_err();
    tells_nothing(&status, Code::InvalidArgument, "key.project");
    // Of its own pool it is told as before.
    let own = key("project-b", "fake-key-of-project-b");
    let status = admin.create_key(of("ops", creation("batch", "b2", own))).await.unwrap_err();
    assert!(status.message().contains("is that of the key b1 already"), "{status:?}");

    admin.create_key(of("ops", creation("batch", "b2", texts()))).await.unwrap();
    let rotation = |name: &str, text: &str| RotateKeyRequest {
        name: name.to_owned(),
        api_key: text.to_owned(),
        ..RotateKeyRequest::default()
    };
    let status =
        admin.rotate_key(of("ops", rotation("pools/batch/keys/b2", FOREIGN_TEXT))).await.unwrap_err();
    tells_nothing(&status, Code::AlreadyExists, "is that of another key already");
    // A key of another pool, and its text: no other answer than for any key that there is not.
    let foreign = key("project-a", "fake-key-of-a2-0000");
    admin.create_key(of("all", creation("default", "a2", foreign))).await.unwrap();
    for id in ["a2", "a3"] {
        let name = format!("pools/batch/keys/{id}");
        let status = admin.rotate_key(of("ops", rotation(&name, "fake-key-of-a2-0000"))).await.unwrap_err();
        tells_nothing(&status, Code::NotFound, &name);
    }

    for validate_only in [true, false] {
        let import = ImportKeysRequest {
            parent: "pools/batch".to_owned(),
            data: format!(
                "api_key,id,project\n{FOREIGN_TEXT},b3,project-b\nfake-key-of-nobody-1111,b4,project-a\n"
            )
            .into_bytes(),
            validate_only,
            ..ImportKeysRequest::default()
        };
        let told = |lines: Vec<keybroker_proto::v1::ImportedLine>| {
            lines.into_iter().map(|line| line.message).collect::<Vec<_>>().join("\n")
        };
        let lines = admin.import_keys(of("all", import.clone())).await.unwrap().into_inner().lines;
        let text = told(lines);
        assert!(text.contains("the key a1 has this text") && text.contains("in the pool default"), "{text}");
        let text = told(admin.import_keys(of("ops", import)).await.unwrap().into_inner().lines);
        assert!(text.contains("another key has this text") && text.contains("in another pool"), "{text}");
        assert!(FOREIGN_WORDS.iter().all(|word| !text.contains(word)), "{text}");
    }

    // A pool that it might use is not there: of those that are it is told its own.
    let pool = || GetPoolRequest { name: "pools/batch-2".to_owned() };
    tells_nothing(&admin.get_pool(of("ops", pool())).await.unwrap_err(), Code::NotFound, "batch");
    let status = admin.get_pool(of("all", pool())).await.unwrap_err();
    assert!(status.message().contains("default"), "{status:?}");
    let list = ListKeysRequest { parent: "pools/batch-2".to_owned(), ..ListKeysRequest::default() };
    tells_nothing(&admin.list_keys(of("ops", list)).await.unwrap_err(), Code::NotFound, "batch");
}

#[tokio::test]
async fn a_key_that_is_left_out_for_one_of_another_pool_does_not_say_for_which() {
    let setting = Setting::start(&identities());
    let mut admin = AdminClient::new(setting.channel().await);
    let new = key("project-c", "fake-key-of-nobody-0000");
    admin.create_key(of("ops", creation("batch", "b2", new))).await.unwrap();
    let taken = "[[projects]]\nid = \"project-c\"\nkeys = [{ id = \"c1\", secret = \"fake-key-of-c1\" }]\n";
    setting.reload(&(taken.to_owned() + &identities()), "a key that was created at run time is left out");
    let get = || GetKeyRequest { name: "pools/batch/keys/b2".to_owned() };
    let problem = admin.get_key(of("all", get())).await.unwrap().into_inner().problem;
    assert!(problem.contains("is in the pool default"), "{problem}");
    let problem = admin.get_key(of("ops", get())).await.unwrap().into_inner().problem;
    assert!(problem.contains("is in another pool") && !problem.contains("default"), "{problem}");
}

#[tokio::test]
async fn metrics_hold_series_of_the_callers_own_pools_and_of_none() {
    let it = Used::start(None).await;
    let scrape = async |who: &str| {
        let request = reqwest::Client::new().get(format!("http://{}/metrics", it.setting.broker.http));
        let answer = request.bearer_auth(token(who)).send().await.unwrap();
        let text = answer.error_for_status().unwrap().text().await.unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let pools = |lines: &[String]| -> BTreeSet<String> {
        let pool = |line: &String| Some(line.split_once("pool=\"")?.1.split_once('"')?.0.to_owned());
        lines.iter().filter_map(pool).collect()
    };
    let names = |lines: &[String]| -> BTreeSet<String> {
        lines.iter().map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
    };
    let (all, own) = (scrape("all").await, scrape("ops").await);
    assert_eq!(pools(&all), BTreeSet::from(["batch", "default"].map(str::to_owned)));
    assert_eq!(pools(&own), BTreeSet::from(["batch".to_owned()]));
    assert!(!own.iter().any(|line| line.contains("project-a")), "{own:?}");
    // What both pools count is there still, and what is of no pool.
    assert_eq!(names(&own), names(&all));
    assert!(own.iter().any(|line| !line.contains("pool=\"")), "{own:?}");
}
