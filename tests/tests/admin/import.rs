//! Many keys at once.

use keybroker_proto::v1::{
    ImportFormat, ImportKeysRequest, ImportKeysResponse, Key, Tier, imported_line::Outcome,
};
use keybroker_tests::{
    harness::{api::Details, rig::Backing},
    on_both_ledgers,
};
use tonic::{Code, Status};

use super::operator::{Operator, leases, named, of_project, rig, said_by};

on_both_ledgers!(
    all_lines_that_can_be_taken_are_and_each_other_one_says_why_not,
    csv_says_what_each_key_is,
    what_cannot_be_read_as_a_whole_creates_nothing,
);

async fn import(
    operator: &Operator,
    data: &str,
    request: ImportKeysRequest,
) -> Result<ImportKeysResponse, Status> {
    let request =
        ImportKeysRequest { parent: "pools/default".to_owned(), data: data.as_bytes().to_vec(), ..request };
    operator.client().import_keys(said_by("ann", request)).await.map(tonic::Response::into_inner)
}

async fn all_lines_that_can_be_taken_are_and_each_other_one_says_why_not(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let data = "# our keys\n\
                test-key-import-aaaa-0001\n\
                \n\
                test-key-import-bbbb-0002 # the second\r\n\
                test-key-import-aaaa-0001\n\
                test-key-admin-a1\n\
                test key with spaces-0006\n\
                short\n";
    let defaults = Some(Key { tier: Tier::Free.into(), ..of_project("extra") });
    let dry =
        ImportKeysRequest { defaults: defaults.clone(), validate_only: true, ..ImportKeysRequest::default() };
    let would = import(&operator, data, dry).await.unwrap();
    assert_eq!(operator.keys().await.len(), 1, "nothing was created");
    let real = ImportKeysRequest { defaults, ..ImportKeysRequest::default() };
    let answer = import(&operator, data, real.clone()).await.unwrap();
    assert_eq!(answer, would);
    assert_eq!(answer.created_count, 2);
    let lines: Vec<(i32, Outcome, &str, &str)> = answer
        .lines
        .iter()
        .map(|line| (line.line, line.outcome(), line.key_preview.as_str(), line.message.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (2, Outcome::Created, "…0001", ""),
            (4, Outcome::Created, "…0002", ""),
            (5, Outcome::Duplicate, "…0001", "the same key stands on line 2"),
            (6, Outcome::Duplicate, "…n-a1", "the key a1 has this text already"),
            (
                7,
                Outcome::Invalid,
                "…0006",
                "api_key has whitespace in it; give the key's text as Google shows it"
            ),
            (
                8,
                Outcome::Invalid,
                "…",
                "api_key is shorter than 8 characters; give the key's text as Google shows it"
            ),
        ]
    );
    let said = format!("{answer:?}");
    assert!(!said.contains("test-key") && !said.contains("spaces") && !said.contains("short\""), "{said}");
    let keys = operator.keys().await;
    assert_eq!(keys.len(), 3);
    assert!(keys[1..].iter().all(|key| key.project == "extra" && key.tier() == Tier::Free));
    assert!(leases(&rig.api, "extra").await);
    let records = operator.records().await;
    assert_eq!(
        records.iter().filter(|record| record.action == "ImportKey" && record.actor == "ann").count(),
        2
    );

    let again = import(&operator, data, real).await.unwrap();
    assert_eq!(again.created_count, 0, "the same file may be imported again");
}

async fn csv_says_what_each_key_is(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let data = "\u{feff}id,api_key,project,tier,weight,priority,labels,billing_account\n\
                c1,test-key-import-cccc-0001,team-c,paid,5,2,owner=ann; site = hq,account-c\n\
                ,\"test-key-import-cccc-0002\",team-c,,,,,\n\
                c1,test-key-import-cccc-0003,,,,,,\n\
                c4,test-key-import-cccc-0004,team-c,free,,,,\n\
                c5,test-key-import-cccc-0005,,gold,many,99,,\n\
                test-key-import-cccc-0006,test-key-import-cccc-0006,,,,,,\n\
                c7,,,,,,,\n";
    let answer = import(&operator, data, ImportKeysRequest::default()).await.unwrap();
    let outcomes: Vec<(i32, Outcome)> = answer.lines.iter().map(|line| (line.line, line.outcome())).collect();
    use Outcome::{Created, Invalid};
    let expected =
        [(2, Created), (3, Created), (4, Invalid), (5, Invalid), (6, Invalid), (7, Invalid), (8, Invalid)];
    assert_eq!(outcomes, expected);
    for (line, parts) in [
        (2, vec!["id c1 is taken"]),
        (3, vec!["key.tier is free", "with paid"]),
        (4, vec!["tier is not a tier", "weight is not a whole number", "priority is out of range"]),
        (5, vec!["id holds the text"]),
        (6, vec!["api_key is empty"]),
    ] {
        let message = &answer.lines[line].message;
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!message.contains("test-key"), "{message}");
    }
    let key = operator.get("c1").await.unwrap();
    assert_eq!((key.weight, key.priority, key.tier()), (Some(5), Some(2), Tier::Paid));
    assert_eq!((key.labels["owner"].as_str(), key.labels["site"].as_str()), ("ann", "hq"));
    assert_eq!(answer.lines[0].name, named("c1"));
}

async fn what_cannot_be_read_as_a_whole_creates_nothing(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let many = "test-key-import-many-0001\n".repeat(5001);
    let csv = ImportKeysRequest { format: ImportFormat::Csv.into(), ..ImportKeysRequest::default() };
    let nothing = ImportKeysRequest::default;
    let cases: [(&str, ImportKeysRequest, &str, &str); 7] = [
        ("", nothing(), "data", "holds no key"),
        ("# nothing\n\n", nothing(), "data", "holds no key"),
        (&many, nothing(), "data", "at most 5000"),
        ("api_key,colour\nx,y\n", nothing(), "data", "unknown column 2"),
        ("test-key-import-dddd-0001,test-key-import-dddd-0002\n", csv.clone(), "data", "unknown column 1"),
        ("id,project\nc1,p\n", csv, "data", "no column api_key"),
        (
            "test-key-import-dddd-0001",
            ImportKeysRequest {
                defaults: Some(Key { api_key: "x".to_owned(), weight: Some(0), ..Key::default() }),
                ..nothing()
            },
            "defaults.api_key",
            "each line has a text of its own",
        ),
    ];
    for (data, request, field, part) in cases {
        let refused = import(&operator, data, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let details = Details::of(&refused);
        let found = details.fields.iter().any(|(name, wrong)| name == field && wrong.contains(part));
        assert!(found && !refused.message().contains("dddd"), "{details:?}");
    }
    let request = ImportKeysRequest {
        parent: "pools/default".to_owned(),
        data: vec![0xff, 0xfe],
        ..ImportKeysRequest::default()
    };
    let refused = operator.client().import_keys(request).await.unwrap_err();
    assert_eq!(Details::of(&refused).fields[0].1, "is not UTF-8 text");
    assert_eq!(operator.keys().await.len(), 1);
    assert_eq!(operator.records().await.len(), 0);
    rig.still_serves().await;
}
