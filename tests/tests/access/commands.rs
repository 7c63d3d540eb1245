//! The commands that speak to a broker, let in by a token over TLS.

use std::{fs, process::Command, time::Duration};

use keybroker_tests::harness::{
    broker::binary,
    certificates::{Authority, Validity},
    process::{Process, wait_until},
};

use serde_json::{Value, json};

use super::{Setting, identity, token};

struct Commands {
    setting: Setting,
    authority: Authority,
}

impl Commands {
    fn start() -> Self {
        let authority = Authority::new("own").unwrap();
        authority.sign("server", "127.0.0.1", Validity::Valid).unwrap();
        let access = format!(
            "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            authority.file("server.pem"),
            authority.file("server.key")
        );
        let setting = Setting::start(
            &(access + &identity("ops", "[\"operator\"]", "") + &identity("w", "[\"worker\"]", "")),
        );
        Self { setting, authority }
    }

    fn command(&self, arguments: &[&str], name: &str) -> Command {
        let mut command = Command::new(binary("keybroker"));
        command.args(arguments).env("KEYBROKER_BROKER", format!("https://{}", self.setting.broker.grpc));
        command.env("KEYBROKER_TLS_CA", self.authority.file("ca.pem")).env("KEYBROKER_TOKEN", token(name));
        command
    }
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn operators_and_workers_are_let_in_by_what_they_may_do() {
    let it = Commands::start();
    let (code, text) = run(&mut it.command(&["keys", "list"], "ops"));
    assert!(code == Some(0) && text.contains("a1"), "{text}");
    let (code, text) = run(&mut it.command(&["keys", "disable", "a1", "--actor", "ann"], "ops"));
    assert_eq!(code, Some(0), "{text}");
    let (_, text) = run(&mut it.command(&["audit"], "ops"));
    assert!(text.contains("ops as ann"), "{text}");
    let (code, text) = run(&mut it.command(&["keys", "enable", "a1"], "ops"));
    assert_eq!(code, Some(0), "{text}");

    let (code, text) = run(&mut it.command(&["keys", "list"], "w"));
    assert!(code == Some(1) && text.contains("needs the role viewer"), "{text}");
    let (code, text) = run(&mut it.command(&["keys", "remove", "a1"], "ops"));
    assert!(code == Some(1) && text.contains("needs the role admin"), "{text}");
    let (code, text) = run(&mut it.command(&["keys", "list"], "nobody"));
    assert!(code == Some(1) && text.contains("not known"), "{text}");

    let show = ["exec", "--model", "gemini-2.5-flash", "--", "sh", "-c", "echo has ${GEMINI_API_KEY#fake-}"];
    let (code, text) = run(&mut it.command(&show, "w"));
    assert_eq!((code, text.as_str()), (Some(0), "has key-of-project-a\n"));
    let (code, text) = run(&mut it.command(&show, "ops"));
    assert!(code == Some(125) && text.contains("needs the role worker"), "{text}");
}

#[test]
fn what_is_wrong_with_a_token_or_a_file_is_named() {
    let it = Commands::start();
    let file = it.authority.path("token");
    fs::write(&file, format!("{}\n", token("ops"))).unwrap();
    let mut command = it.command(&["keys", "list", "--token-file"], "nobody");
    let (code, text) = run(command.arg(&file));
    assert_eq!(code, Some(0), "the file stands: {text}");
    fs::write(&file, "\n").unwrap();
    let mut command = it.command(&["keys", "list", "--token-file"], "nobody");
    let (code, text) = run(command.arg(&file));
    assert!(code == Some(2) && text.contains("first line is empty"), "{text}");
    for (setting, value, said) in [
        ("KEYBROKER_TLS_CA", "/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("KEYBROKER_BROKER", "http://192.0.2.1:50051", "https"),
        ("KEYBROKER_BROKER", "nowhere", "port"),
    ] {
        let mut command = it.command(&["keys", "list"], "ops");
        if setting == "KEYBROKER_BROKER" {
            command.env_remove("KEYBROKER_TLS_CA");
        }
        let (code, text) = run(command.env(setting, value));
        assert!(code == Some(2) && text.contains(said), "{text}");
        assert!(!text.contains("token-of"), "{text}");
    }
}

#[test]
fn what_is_wrong_with_the_encryption_is_named() {
    let it = Commands::start();
    let other = Authority::new("other").unwrap();
    fs::write(it.authority.path("none.pem"), "no certificate").unwrap();
    let (broken, plain) = (it.authority.file("none.pem"), format!("http://{}", it.setting.broker.grpc));
    for (setting, value, code, said) in [
        ("KEYBROKER_TLS_CA", other.file("ca.pem"), 1, "is not trusted"),
        ("KEYBROKER_TLS_SERVER_NAME", "elsewhere.example".to_owned(), 1, "--tls-server-name"),
        ("KEYBROKER_TLS_CA", broken, 2, "--tls-ca or KEYBROKER_TLS_CA: cannot use ca"),
        ("KEYBROKER_BROKER", plain, 1, "needs https:// before its address"),
        ("KEYBROKER_BROKER", format!("https://{}", it.setting.broker.http), 1, "--tls-ca"),
    ] {
        let mut command = it.command(&["keys", "list"], "ops");
        if setting == "KEYBROKER_BROKER" {
            command.env_remove("KEYBROKER_TLS_CA");
        }
        let (got, text) = run(command.env(setting, &value));
        assert!(got == Some(code) && text.contains(said), "{setting}={value}: {text}");
    }
    let (_, text) = run(it.command(&["keys", "list"], "ops").env("KEYBROKER_BROKER", "https://127.0.0.1:1"));
    assert!(text.contains("no broker answers at https://127.0.0.1:1"), "{text}");
}

#[test]
fn a_certificate_of_the_broker_that_has_expired_is_warned_of() {
    let authority = Authority::new("own").unwrap();
    authority.sign("server", "127.0.0.1", Validity::Expired).unwrap();
    let (cert, key) = (authority.file("server.pem"), authority.file("server.key"));
    let file = authority.path("keybroker.toml");
    fs::write(
        &file,
        format!("[tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n[[projects]]\nid = \"a\"\nkeys = [{{ secret = \"fake-key-of-a-0001\" }}]\n"),
    )
    .unwrap();
    let mut check = Command::new(binary("keybroker"));
    let (code, text) = run(check.args(["config", "check", "--config"]).arg(&file));
    assert!(code == Some(0) && text.contains("the certificate expired at 20"), "{text}");
}

/// What a proxy of this identity answers to a request, and its status.
fn through_a_proxy(it: &Commands, name: &str) -> (u16, Value) {
    let upstream = ["--upstream", "http://127.0.0.1:9", "--attempts", "3", "--deadline", "60"];
    let mut command = it.command(&["proxy", "--listen", "127.0.0.1:0"], name);
    let log = it.authority.path(&format!("proxy-of-{name}.log"));
    command.args(upstream).stderr(fs::File::create(&log).unwrap());
    let _proxy = Process::start("keybroker proxy", &mut command).unwrap();
    let address = || {
        let text = fs::read_to_string(&log).unwrap();
        Some(text.split("http://").nth(1)?.split(';').next()?.to_owned())
    };
    assert!(wait_until(Duration::from_secs(10), || address().is_some()));
    let url = format!("http://{}/v1beta/models/gemini-2.5-flash:generateContent", address().unwrap());
    let (_, text) =
        run(Command::new("curl").args(["-s", "-w", "%{http_code}", "-d", "{\"contents\":[]}", &url]));
    let (body, status) = text.split_at(text.len() - 3);
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_proxy_is_let_in_by_its_certificate_and_token() {
    // A lease was had, and Google is not there.
    let (status, body) = through_a_proxy(&Commands::start(), "w");
    assert!(status == 502 && body["error"]["message"].as_str().unwrap().contains("Gemini"), "{body}");
}

#[test]
fn a_proxy_and_exec_say_that_it_is_the_broker_who_does_not_let_them_in() {
    let it = Commands::start();
    let show = ["exec", "--model", "gemini-2.5-flash", "--", "true"];
    for (name, code, status, said) in
        [("nobody", 401, "UNAUTHENTICATED", "not known"), ("ops", 403, "PERMISSION_DENIED", "ops")]
    {
        let (answered, body) = through_a_proxy(&it, name);
        let error = &body["error"];
        assert_eq!((answered, &error["code"], &error["status"]), (code, &json!(code), &json!(status)));
        let message = error["message"].as_str().unwrap();
        let (exit, text) = run(&mut it.command(&show, name));
        assert_eq!(exit, Some(125), "{text}");
        assert_eq!(text.trim_end(), message);
        for word in ["keybroker: the broker does not", "KEYBROKER_TOKEN", said, "not Google's"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(!message.contains("token-of"), "{message}");
    }
}
