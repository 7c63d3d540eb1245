//! How good examples are hurt.

use proptest::{prelude::*, sample::Index};

/// No input grows beyond this.
const LONGEST: usize = 128 * 1024;

/// What is put in the place of something good.
const HOSTILE: [&[u8]; 32] = [
    b"",
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"]",
    b",",
    b":",
    b"=",
    b"#",
    b"null",
    b"true",
    b"NaN",
    b"inf",
    b"-1",
    b"0",
    b"-0.0",
    b"1e999",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"0.0000000000000000000000001s",
    b"99999999999999999999s",
    b"\x1b[31m",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "\u{202e}\u{feff}\u{0}\u{10ffff}".as_bytes(),
];

#[derive(Debug, Clone)]
struct Edit {
    at: Index,
    length: Index,
    byte: u8,
    kind: u8,
}

fn edit() -> impl Strategy<Value = Edit> {
    (any::<Index>(), any::<Index>(), any::<u8>(), 0_u8..10).prop_map(|(at, length, byte, kind)| Edit {
        at,
        length,
        byte,
        kind,
    })
}

/// One of the examples, hurt in a few places; two of them joined; or anything at all.
pub(crate) fn hurt(examples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let one = prop::sample::select(examples.clone());
    let other = prop::sample::select(examples);
    prop_oneof![
        8 => (one, prop::collection::vec(edit(), 0..8)).prop_map(|(example, edits)| apply(example, &edits)),
        1 => (other.clone(), any::<Index>(), other, any::<Index>()).prop_map(|(one, from, other, to)| {
            [&one[..from.index(one.len() + 1)], &other[to.index(other.len() + 1)..]].concat()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

fn apply(mut input: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let at = edit.at.index(input.len() + 1);
        let end = at + edit.length.index(input.len() - at + 1).min(usize::from(edit.byte) / 8);
        match edit.kind {
            0 if at < input.len() => input[at] = edit.byte,
            1 => input.insert(at, edit.byte),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => input.extend_from_within(at..),
            5 => {
                let part = input[at..end].repeat(usize::from(edit.byte) * 4);
                drop(input.splice(at..at, part));
            }
            6 => replace_number(&mut input, at, edit.byte),
            7 if at < input.len() => input[at] ^= 1 << (edit.byte % 8),
            _ => {
                let hostile = HOSTILE[usize::from(edit.byte) % HOSTILE.len()];
                drop(input.splice(at..end, hostile.iter().copied()));
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// Puts something hostile in the place of the next number.
fn replace_number(input: &mut Vec<u8>, from: usize, byte: u8) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = input[from..].iter().position(digit).map(|found| from + found) else { return };
    let end = input[start..].iter().position(|byte| !digit(byte)).map_or(input.len(), |found| start + found);
    let hostile = HOSTILE[16 + usize::from(byte) % 13];
    drop(input.splice(start..end, hostile.iter().copied()));
}
