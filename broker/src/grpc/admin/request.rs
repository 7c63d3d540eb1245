//! What requests of the service name: resources, and who asks.

use tonic::{Request, Status};

use super::super::{check::Faults, status::bad_request};
use crate::{access::Caller, registry::Who, server::Peer};

/// The metadata by which a caller says who it is.
const ACTOR: &str = "x-keybroker-actor";
const LONGEST_ACTOR: usize = 128;

/// The pool that a parent names; `-` for all.
pub(super) fn parent<'a>(name: &'a str, faults: &mut Faults) -> Option<&'a str> {
    let pool = pool_of(name);
    if pool.is_none() {
        faults.add("parent", "is not the name of a pool; write pools/{pool}, such as pools/default");
    }
    pool
}

/// The pool that a name names.
pub(super) fn pool_name_of<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    pool_of(name)
        .ok_or_else(|| wrong(field, "is not the name of a pool; write pools/{pool}, such as pools/default"))
}

/// The pool and the id that a key's name names.
pub(super) fn key_name<'a>(field: &str, name: &'a str) -> Result<(&'a str, &'a str), Status> {
    let parts = name.split_once("/keys/").and_then(|(pool, id)| Some((pool_of(pool)?, id)));
    let parts = parts.filter(|(_, id)| !id.is_empty() && !id.contains('/'));
    let text = "is not the name of a key; write pools/{pool}/keys/{key}, such as pools/default/keys/a1";
    parts.ok_or_else(|| wrong(field, text))
}

fn pool_of(name: &str) -> Option<&str> {
    name.strip_prefix("pools/").filter(|pool| !pool.is_empty() && !pool.contains('/'))
}

/// Passes if a reason that is given for the record has no key in it.
pub(super) fn reason_without_key(reason: &str) -> Result<(), Status> {
    let mut faults = Faults::default();
    faults.no_key("reason", reason);
    faults.into_result()
}

fn wrong(field: &str, text: &str) -> Status {
    bad_request(vec![(field.to_owned(), text.to_owned())])
}

/// Who asks: the identity, with the name that it gives beside its own; where nobody has to say who they are, the
/// name they give, else their address.
pub(super) fn who<T>(request: &Request<T>, caller: &Caller) -> Result<Who, Status> {
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    let peer = peer.map(|address| address.ip().to_string()).unwrap_or_default();
    let mut faults = Faults::default();
    faults.no_key(
        ACTOR,
        request.metadata().get(ACTOR).and_then(|actor| actor.to_str().ok()).unwrap_or_default(),
    );
    faults.into_result()?;
    let given = match request.metadata().get(ACTOR) {
        None => None,
        Some(actor) => {
            let actor = actor.to_str().ok().map(str::trim);
            let actor = actor.filter(|actor| (1..=LONGEST_ACTOR).contains(&actor.len()));
            let text = "is not a name; write 1 to 128 printable ASCII characters, or leave it out";
            Some(actor.ok_or_else(|| wrong(ACTOR, text))?)
        }
    };
    let actor = match (caller.name(), given) {
        ("", given) => given.unwrap_or(&peer).to_owned(),
        (name, None) => name.to_owned(),
        (name, Some(given)) => format!("{name} as {given}"),
    };
    Ok(Who { actor, peer })
}
