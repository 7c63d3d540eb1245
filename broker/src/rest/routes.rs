//! Which request of HTTP is which call of `keybroker.v1.Admin`, in the manner of google.api.http.

use http::Method;

/// Where the body of a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    None,
    /// It is the whole message, but for what the path says.
    Whole,
    /// It is this field of the message.
    Field(&'static str),
}

/// One kind of request. A template has at most one variable, such as `{name=pools/*/keys/*}`, which is a field of the
/// message; what follows it is matched as it stands. Fields that are in neither path nor body come from the query.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) template: &'static str,
    pub(super) call: &'static str,
    pub(super) body: Body,
}

const fn route(method: Method, template: &'static str, call: &'static str, body: Body) -> Route {
    Route { method, template, call, body }
}

/// All of them.
pub(super) static ROUTES: [Route; 23] = [
    route(Method::GET, "/v1/{parent=pools/*}/keys", "ListKeys", Body::None),
    route(Method::POST, "/v1/{parent=pools/*}/keys", "CreateKey", Body::Field("key")),
    route(Method::POST, "/v1/{parent=pools/*}/keys:import", "ImportKeys", Body::Whole),
    route(Method::GET, "/v1/{name=pools/*/keys/*}", "GetKey", Body::None),
    route(Method::PATCH, "/v1/{key.name=pools/*/keys/*}", "UpdateKey", Body::Field("key")),
    route(Method::DELETE, "/v1/{name=pools/*/keys/*}", "DeleteKey", Body::None),
    route(Method::POST, "/v1/{name=pools/*/keys/*}:rotate", "RotateKey", Body::Whole),
    route(Method::POST, "/v1/{name=pools/*/keys/*}:enable", "EnableKey", Body::Whole),
    route(Method::POST, "/v1/{name=pools/*/keys/*}:disable", "DisableKey", Body::Whole),
    route(Method::POST, "/v1/{name=pools/*/keys/*}:drain", "DrainKey", Body::Whole),
    route(Method::POST, "/v1/{name=pools/*/keys/*}:resetCooldowns", "ResetCooldowns", Body::Whole),
    route(Method::GET, "/v1/pools", "ListPools", Body::None),
    route(Method::POST, "/v1/pools", "CreatePool", Body::Field("pool")),
    route(Method::GET, "/v1/{name=pools/*}", "GetPool", Body::None),
    route(Method::PATCH, "/v1/{pool.name=pools/*}", "UpdatePool", Body::Field("pool")),
    route(Method::DELETE, "/v1/{name=pools/*}", "DeletePool", Body::None),
    route(Method::POST, "/v1/{name=pools/*}:resetCooldowns", "ResetCooldowns", Body::Whole),
    route(Method::POST, "/v1/{name=pools/*}:acceptLoss", "AcceptLoss", Body::Whole),
    route(Method::GET, "/v1/pools/{pool=*}:inspect", "InspectPool", Body::None),
    route(Method::GET, "/v1/{parent=pools/*}/usage", "QueryUsage", Body::None),
    route(Method::GET, "/v1/pools/{pool=*}:watch", "WatchPool", Body::None),
    route(Method::GET, "/v1/events", "WatchEvents", Body::None),
    route(Method::GET, "/v1/auditRecords", "ListAuditRecords", Body::None),
];

/// What a path says of the message: a field and its text.
pub(super) type Captured<'a> = Option<(&'static str, &'a str)>;

/// Why there is no such request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// There is no such path.
    Path,
    /// There is, for these methods.
    Method(Vec<Method>),
}

/// The request that is meant.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<(&'static Route, Captured<'a>), NoRoute> {
    let mut others = Vec::new();
    for route in &ROUTES {
        let Some(captured) = route.captures(path) else { continue };
        if route.method == method {
            return Ok((route, captured));
        }
        others.push(route.method.clone());
    }
    Err(if others.is_empty() { NoRoute::Path } else { NoRoute::Method(others) })
}

impl Route {
    fn captures<'a>(&self, path: &'a str) -> Option<Captured<'a>> {
        let Some((before, rest)) = self.template.split_once('{') else {
            return (self.template == path).then_some(None);
        };
        let (variable, after) = rest.split_once('}')?;
        let (field, pattern) = variable.split_once('=')?;
        let captured = path.strip_prefix(before)?.strip_suffix(after)?;
        matches(pattern, captured).then_some(Some((field, captured)))
    }
}

/// Whether a text has the parts of a pattern; a star is one part that is not empty and names no verb.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut parts) = (pattern.split('/'), text.split('/'));
    loop {
        match (wanted.next(), parts.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() && !part.contains([':', '%']) => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_call_and_what_it_names() {
        for (method, path, call, captured) in [
            (Method::GET, "/v1/pools/a/keys", "ListKeys", Some(("parent", "pools/a"))),
            (Method::GET, "/v1/pools/-/keys", "ListKeys", Some(("parent", "pools/-"))),
            (Method::POST, "/v1/pools/a/keys:import", "ImportKeys", Some(("parent", "pools/a"))),
            (Method::GET, "/v1/pools/a/keys/k.1", "GetKey", Some(("name", "pools/a/keys/k.1"))),
            (Method::PATCH, "/v1/pools/a/keys/k", "UpdateKey", Some(("key.name", "pools/a/keys/k"))),
            (Method::POST, "/v1/pools/a/keys/k:drain", "DrainKey", Some(("name", "pools/a/keys/k"))),
            (Method::POST, "/v1/pools/a:resetCooldowns", "ResetCooldowns", Some(("name", "pools/a"))),
            (Method::GET, "/v1/pools/a:inspect", "InspectPool", Some(("pool", "a"))),
            (Method::GET, "/v1/pools", "ListPools", None),
            (Method::GET, "/v1/auditRecords", "ListAuditRecords", None),
        ] {
            let (route, found) = find(&method, path).unwrap();
            assert_eq!((route.call, found), (call, captured), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_is_done_otherwise() {
        for path in [
            "/v1",
            "/v1/pools/",
            "/v1/pools/a/keys/",
            "/v1/pools/a/keys/k:other",
            "/v1/pools/a%2Fb",
            "/v2/pools",
        ] {
            assert_eq!(find(&Method::GET, path).unwrap_err(), NoRoute::Path, "{path}");
        }
        let other = find(&Method::PUT, "/v1/pools").unwrap_err();
        assert_eq!(other, NoRoute::Method(vec![Method::GET, Method::POST]));
    }
}
