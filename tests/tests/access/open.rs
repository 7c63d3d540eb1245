//! Addresses that others can reach, and configurations of access that are wrong.

use std::{fs, process::Command, time::Duration};

use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess, binary},
    certificates::{Authority, Validity},
};
use tempfile::TempDir;

use super::{POOLS, identity};

const PATIENCE: Duration = Duration::from_secs(20);

fn options(folder: &TempDir, access: &str) -> BrokerOptions {
    let file = folder.path().join("keybroker.toml");
    fs::write(&file, format!("{POOLS}{access}")).unwrap();
    BrokerOptions::default()
        .arg("--config", file.display().to_string())
        .arg("--data-dir", folder.path().join("data").display().to_string())
}

#[test]
fn beyond_this_host_a_broker_listens_only_with_encryption_and_identities_or_if_that_was_said() {
    let authority = Authority::new("own").unwrap();
    authority.sign("server", "127.0.0.1", Validity::Valid).unwrap();
    let tls = format!(
        "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        authority.file("server.pem"),
        authority.file("server.key")
    );
    let worker = identity("worker", "[\"worker\"]", "");
    for (access, said) in [
        (String::new(), "[tls] and [[identities]]"),
        (tls.clone(), "without [[identities]]"),
        (worker.clone(), "without [tls]"),
    ] {
        let folder = TempDir::new().unwrap();
        let options = options(&folder, &access).at("0.0.0.0:0");
        let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).unwrap();
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(said) && text.contains("--grpc-addr") && text.contains("--insecure"), "{text}");
        let insecure = options.env("KEYBROKER_INSECURE", "true");
        let broker = BrokerProcess::start(&insecure).unwrap();
        assert!(broker.log().contains("is open to other hosts"), "{}", broker.log());
    }
    let folder = TempDir::new().unwrap();
    let broker = BrokerProcess::start(&options(&folder, &(tls + &worker)).at("0.0.0.0:0")).unwrap();
    assert!(!broker.log().contains("is open to other hosts"), "{}", broker.log());
}

#[test]
fn each_fault_of_access_is_named_with_its_place_and_its_fix() {
    let folder = TempDir::new().unwrap();
    let text = r#"
[tls]
cert_file = "nowhere.pem"
key_file = "key.pem"
[jwt]
issuer = "https://issuer"
jwks_file = "keys.json"
[[identities]]
name = "one two"
roles = ["worke", "king"]
token_sha256 = ["fake-token-in-the-wrong-place"]
[[identities]]
name = "b"
certificate_names = ["a b"]
plan = "gold"
[[identities]]
name = "b"
roles = ["admin"]
pools = ["a*b"]
consumers = []
certificate_names = ["worker"]
[[identities]]
name = "c"
roles = []
"#;
    fs::write(folder.path().join("key.pem"), "no key").unwrap();
    fs::write(folder.path().join("keys.json"), "{}").unwrap();
    let (code, text) = BrokerProcess::run_to_end(&options(&folder, text), PATIENCE).unwrap();
    assert_eq!(code, Some(2), "{text}");
    for said in [
        "tls.cert_file: the file it names cannot be read",
        "jwt: has no `audience`",
        "jwt.jwks_file: the file is not a JSON Web Key Set",
        "identities[0].name: is not a valid name",
        "identities[0].roles[0]: is not a role; did you mean \"worker\"?",
        "identities[0].roles[1]: is not a role; write one of: worker, viewer, operator, admin",
        "identities[0].token_sha256[0]: is not the SHA-256 of a token",
        "identities[1]: has no `roles`",
        "identities[1].certificate_names[0]: cannot be a name",
        "there is no plan gold",
        "the identity b was written before",
        "identities[2].pools[0]: is not a valid name",
        "identities[2].consumers: is an empty list",
        "identities[3].roles: is an empty list",
        "identities[3]: has nothing to be known by",
    ] {
        assert!(text.contains(said), "no {said:?} in {text}");
    }
    assert!(!text.contains("fake-token"), "{text}");
}

#[test]
fn a_token_is_made_with_the_line_by_which_the_configuration_knows_it() {
    let made = Command::new(binary("keybroker")).arg("generate-token").output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let token = text.lines().next().unwrap();
    let digest = keybroker::access::TokenDigest::of(token);
    assert!(text.contains(&format!("token_sha256 = [\"{digest}\"]")), "{text}");
}
