//! A Redis that cannot be used ends the broker with code 1 and says what to correct.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    process::free_port,
    redis::RedisServer,
};

/// How long the broker may try before it gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a broker says that cannot use this URL.
fn refused(url: &str) -> String {
    let options =
        BrokerOptions::default().env("GEMINI_API_KEYS", "test-key-good-1111").env("KEYBROKER_REDIS_URL", url);
    let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The last line, which is all that a person who started it by hand has to read.
fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn a_redis_that_is_absent_is_said_so_with_the_setting_to_correct() {
    let port = free_port().expect("a port is free");
    let text = refused(&format!("redis://127.0.0.1:{port}"));
    let last = last_line(&text);
    assert!(last.contains("cannot be reached"), "{text}");
    assert!(last.contains("--redis-url") && last.contains("KEYBROKER_REDIS_URL"), "{text}");
}

#[test]
fn a_wrong_password_is_said_so_at_once_and_not_shown() {
    let server = RedisServer::start_with(Some("right-password"), &[]).expect("redis-server starts");
    for credentials in ["", ":wrong-password@", "somebody:wrong-password@"] {
        let started = Instant::now();
        let text = refused(&format!("redis://{credentials}127.0.0.1:{}", server.port()));
        let last = last_line(&text);
        assert!(last.contains("password"), "{text}");
        assert!(!text.contains("wrong-password"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(5), "waiting does not mend a password");
    }
}

#[test]
fn a_password_for_a_redis_that_has_none_is_not_shown() {
    let server = RedisServer::start().expect("redis-server starts");
    // The default user of a Redis without a password takes any; a user it does not know is refused.
    let text = refused(&format!("redis://somebody:wrong-password@127.0.0.1:{}", server.port()));
    assert!(last_line(&text).contains("password"), "{text}");
    assert!(!text.contains("wrong-password"), "{text}");
}

#[test]
fn a_redis_that_is_too_old_is_named_with_its_version_and_the_one_that_is_needed() {
    let port = old_redis();
    let started = Instant::now();
    let text = refused(&format!("redis://127.0.0.1:{port}"));
    let last = last_line(&text);
    assert!(last.contains("5.0.0") && last.contains("6.2"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5), "waiting does not mend a version");
}

#[test]
fn a_redis_that_may_drop_what_is_counted_is_refused_with_the_policy_it_needs() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server =
            RedisServer::start_with(None, &["--maxmemory-policy", policy]).expect("redis-server starts");
        let text = refused(&server.url());
        let last = last_line(&text);
        assert!(last.contains(policy) && last.contains("maxmemory-policy noeviction"), "{text}");
    }
}

#[test]
fn a_redis_url_that_is_none_is_refused_at_once_with_the_setting_to_correct() {
    for url in [
        "not a url",
        "http://127.0.0.1:6379",
        "redis://:wrong-password@",
        "redis://:wrong-password@host:notaport",
    ] {
        let started = Instant::now();
        let text = refused(url);
        assert!(text.contains("URL"), "{url}: {text}");
        assert!(text.contains("KEYBROKER_REDIS_URL"), "{url}: {text}");
        assert!(!text.contains("wrong-password"), "{url}: {text}");
        assert!(started.elapsed() < Duration::from_secs(5), "waiting does not mend a URL");
    }
}

/// A server that speaks just enough of Redis's protocol to say that it is version 5.
fn old_redis() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("a listener has an address").port();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer_like_version_5(&connection));
        }
    });
    port
}

fn answer_like_version_5(connection: &TcpStream) {
    let mut reader = BufReader::new(connection);
    let mut writer = connection;
    while let Some(command) = read_command(&mut reader) {
        let info = "# Server\r\nredis_version:5.0.0\r\nredis_mode:standalone\r\n";
        let answer = match command.first().map(|name| name.to_ascii_uppercase()).as_deref() {
            Some("INFO") => format!("${}\r\n{info}\r\n", info.len()),
            Some("HELLO") => "-ERR unknown command `HELLO`\r\n".to_owned(),
            Some("PING") => "+PONG\r\n".to_owned(),
            Some("CLIENT" | "SELECT") => "+OK\r\n".to_owned(),
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One command: an array of strings.
fn read_command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let count: usize = line()?.strip_prefix('*')?.parse().ok()?;
    // Before each string stands its length, which plain words do not need.
    (0..count).map(|_| line().and_then(|_| line())).collect()
}
