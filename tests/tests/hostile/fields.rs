//! Every field of every request, with every hostile value that it can hold.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use tonic::Code;

use super::{
    calls::{World, call, examples, frame, judge, methods},
    driver::panics,
};

/// How deep messages in messages are looked into.
const DEPTH: usize = 3;
/// A field that is repeated is repeated so often: more than any field allows.
const MANY: usize = 5100;
const WITHIN: Duration = Duration::from_secs(10);

fn texts() -> Vec<String> {
    let long = [300, 600, 100_000].map(|length| "x".repeat(length));
    let short = [
        "",
        " ",
        "\0",
        "\n\r\t",
        "\u{1b}[31mred",
        "\u{202e}\u{feff}\u{10ffff}",
        "NaN",
        "-1",
        "9223372036854775808",
        "../../etc/passwd",
        "pools/",
        "pools//keys/",
        "pools/-/keys/-",
        "pools/default/keys/\u{7f}",
        "a:b/c:d",
        "{{}}%s%n$(id)`",
        "*",
    ];
    short.into_iter().map(str::to_owned).chain(long).collect()
}

fn values(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::Bool => vec![Value::Bool(true), Value::Bool(false)],
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => [0, -1, 1, i32::MIN, i32::MAX].map(Value::I32).into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            [0, -1, 1, i64::MIN, i64::MAX, 1 << 53].map(Value::I64).into()
        }
        Kind::Uint32 | Kind::Fixed32 => [0, u32::MAX].map(Value::U32).into(),
        Kind::Uint64 | Kind::Fixed64 => [0, u64::MAX].map(Value::U64).into(),
        Kind::Float => [f32::NAN, f32::INFINITY, -0.0].map(Value::F32).into(),
        Kind::Double => [f64::NAN, f64::INFINITY, -0.0].map(Value::F64).into(),
        Kind::String => texts().into_iter().map(Value::String).collect(),
        Kind::Bytes => texts()
            .into_iter()
            .map(String::into_bytes)
            .chain([vec![0xFF; 1000]])
            .map(|b| Value::Bytes(b.into()))
            .collect(),
        Kind::Enum(_) => [0, 1, -1, 99, i32::MIN, i32::MAX].map(Value::EnumNumber).into(),
        Kind::Message(message) => vec![Value::Message(DynamicMessage::new(message.clone()))],
    }
}

/// What a field may be instead of what it is.
fn replacements(field: &FieldDescriptor, now: &Value, depth: usize) -> Vec<Value> {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let held = values(&entry.map_entry_value_field().kind());
        let plain = held[0].clone();
        let name = |text: &str| MapKey::String(text.to_owned());
        let many: HashMap<_, _> =
            (0..MANY).map(|number| (name(&number.to_string()), plain.clone())).collect();
        let named = texts().into_iter().map(|text| (name(&text), plain.clone()));
        let holding = held.iter().map(|value| (name("requests_per_minute"), value.clone()));
        return named
            .chain(holding)
            .map(|entry| Value::Map([entry].into()))
            .chain([Value::Map(many)])
            .collect();
    }
    let single = match (field.kind(), now) {
        (Kind::Message(descriptor), now) if depth > 0 => {
            let current = match now {
                Value::Message(message) => message.clone(),
                Value::List(list) => list
                    .first()
                    .and_then(Value::as_message)
                    .cloned()
                    .unwrap_or_else(|| DynamicMessage::new(descriptor.clone())),
                _ => DynamicMessage::new(descriptor.clone()),
            };
            let mut all = values(&field.kind());
            all.extend(variants(&current, depth - 1).into_iter().map(Value::Message));
            all
        }
        (kind, _) => values(&kind),
    };
    if !field.is_list() {
        return single;
    }
    let many = single.first().map(|value| Value::List(vec![value.clone(); MANY]));
    single
        .into_iter()
        .map(|value| Value::List(vec![value]))
        .chain(many)
        .chain([Value::List(Vec::new())])
        .collect()
}

/// The message with one thing changed, for everything that can be.
fn variants(message: &DynamicMessage, depth: usize) -> Vec<DynamicMessage> {
    let mut all = Vec::new();
    for field in message.descriptor().fields() {
        for value in replacements(&field, &message.get_field(&field), depth) {
            let mut changed = message.clone();
            changed.set_field(&field, value);
            all.push(changed);
        }
    }
    all
}

fn input_of(pool: &DescriptorPool, path: &str) -> MessageDescriptor {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    let service = pool.get_service_by_name(service).unwrap();
    service.methods().find(|known| known.name() == method).unwrap().input()
}

#[test]
fn every_field_of_every_request_bears_every_hostile_value() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (paths, before) = (methods(), panics());
    let mut faults = Vec::new();
    let mut count = 0;
    for example in examples() {
        let path = &paths[usize::from(example[0])];
        let message = DynamicMessage::decode(input_of(&pool, path), &example[6..]).unwrap();
        let world = runtime.block_on(World::new());
        for changed in variants(&message, DEPTH) {
            count += 1;
            let answering = call(world.routes(), path, frame(&changed));
            let answer = runtime.block_on(async { tokio::time::timeout(WITHIN, answering).await });
            let judged = match answer {
                Err(_) => Err(format!("{path} never answers")),
                Ok(Err(why)) => Err(why),
                Ok(Ok(status)) if status.code() == Code::Internal => Err(format!("{path}: {status:?}")),
                Ok(Ok(status)) => judge(path, &status),
            };
            if let Err(why) = judged {
                let shown = |text: String| text.chars().take(300).collect::<String>();
                faults.push(format!(
                    "{}\n    {}",
                    shown(why),
                    shown(format!("{:?}", changed.encode_to_vec()))
                ));
            }
        }
        runtime.block_on(world.still_serves());
    }
    println!("hostile fields: {count} requests");
    assert!(
        faults.is_empty(),
        "{} faults, such as\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    assert_eq!(panics(), before);
    assert!(count > 1000, "{count} requests are not all there are");
}
