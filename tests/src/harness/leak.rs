//! Looks for key texts where none may be.

use std::{fs, io, path::Path};

use super::redis::RedisServer;

/// So many characters of a text in a row are a leak.
const TELLING: usize = 8;

/// Every text of which a telling part is there, with what stands around it. The last five characters of
/// a text are not part of it: they may be shown.
pub fn leaks(texts: &[&str], bytes: &[u8]) -> Vec<String> {
    let leak = |text: &&str| {
        let secret = text.len() - "-0001".len();
        let mut parts = (0..=secret - TELLING).map(|start| &text[start..start + TELLING]);
        let at = parts.find_map(|part| position(bytes, part))?;
        let around = &bytes[at.saturating_sub(300)..(at + 300).min(bytes.len())];
        Some(format!("{text}: {}", String::from_utf8_lossy(around)))
    };
    texts.iter().filter_map(leak).collect()
}

/// Whether a text is there.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    position(bytes, text).is_some()
}

fn position(bytes: &[u8], text: &str) -> Option<usize> {
    let first = text.as_bytes()[0];
    let found =
        |(at, byte): (usize, &u8)| (*byte == first && bytes[at..].starts_with(text.as_bytes())).then_some(at);
    bytes.iter().enumerate().find_map(found)
}

/// Every file below a folder.
///
/// # Errors
/// If one cannot be read.
pub fn everything_in(folder: &Path) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        all.extend(if path.is_dir() { everything_in(&path)? } else { fs::read(&path)? });
        all.push(b'\n');
    }
    Ok(all)
}

/// Every key of every kind, with its values, and its dump, whose texts may be compressed.
///
/// # Errors
/// If Redis does not answer.
///
/// # Panics
/// If there is a key of a kind that is not known here, for it would not be searched.
pub fn everything_in_redis(redis: &RedisServer) -> redis::RedisResult<Vec<u8>> {
    let mut connection = redis.connect()?;
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection)?;
    let mut all = Vec::new();
    for name in names {
        let kind: String = redis::cmd("TYPE").arg(&name).query(&mut connection)?;
        let (command, range): (&str, &[&str]) = match kind.as_str() {
            "string" => ("GET", &[]),
            "hash" => ("HGETALL", &[]),
            "set" => ("SMEMBERS", &[]),
            "zset" => ("ZRANGE", &["0", "-1"]),
            "list" => ("LRANGE", &["0", "-1"]),
            "stream" => ("XRANGE", &["-", "+"]),
            other => panic!("a {other} cannot be searched"),
        };
        let value: redis::Value = redis::cmd(command).arg(&name).arg(range).query(&mut connection)?;
        all.extend(&name);
        all.push(b'\n');
        flatten(&value, &mut all);
        all.extend(redis::cmd("DUMP").arg(&name).query::<Vec<u8>>(&mut connection)?);
        all.push(b'\n');
    }
    Ok(all)
}

fn flatten(value: &redis::Value, into: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(bytes) => {
            into.extend(bytes);
            into.push(b'\n');
        }
        redis::Value::SimpleString(text) => into.extend(text.as_bytes()),
        redis::Value::Array(items) | redis::Value::Set(items) => {
            items.iter().for_each(|item| flatten(item, into));
        }
        redis::Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            flatten(name, into);
            flatten(value, into);
        }),
        _ => {}
    }
}
