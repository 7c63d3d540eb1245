//! Which role each call needs. A call that is not here is served to nobody.

use super::Role;

/// What whoever makes a call must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody: it tells nothing but that the broker is there.
    Nothing,
    /// Somebody who is known.
    Identity,
    /// Somebody who has this role.
    Role(Role),
}

const WORKER: Needs = Needs::Role(Role::Worker);
const VIEWER: Needs = Needs::Role(Role::Viewer);
const OPERATOR: Needs = Needs::Role(Role::Operator);
const ADMIN: Needs = Needs::Role(Role::Admin);

/// What a call of gRPC needs, by its path; nothing is known of a call that is not served.
pub fn needs_of(path: &str) -> Option<Needs> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    Some(match (service, method) {
        ("keybroker.v1.KeyBroker", "Acquire" | "Report" | "Renew") => WORKER,
        (
            "keybroker.v1.Admin",
            "ListKeys" | "GetKey" | "ListPools" | "GetPool" | "InspectPool" | "QueryUsage"
            | "ListAuditRecords" | "WatchPool" | "WatchEvents",
        ) => VIEWER,
        ("keybroker.v1.Admin", "EnableKey" | "DisableKey" | "DrainKey" | "ResetCooldowns" | "AcceptLoss") => {
            OPERATOR
        }
        (
            "keybroker.v1.Admin",
            "CreateKey" | "UpdateKey" | "RotateKey" | "DeleteKey" | "ImportKeys" | "CreatePool"
            | "UpdatePool" | "DeletePool",
        ) => ADMIN,
        ("grpc.health.v1.Health", _) => Needs::Nothing,
        ("grpc.reflection.v1.ServerReflection", _) => Needs::Identity,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use keybroker_proto::FILE_DESCRIPTOR_SET;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_of_the_contract_needs_a_role() {
        let set: FileDescriptorSet = prost::Message::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut calls = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(matches!(needs_of(&path), Some(Needs::Role(_))), "{path}");
                    calls += 1;
                }
            }
        }
        assert!(calls >= 20, "{calls}");
        assert_eq!(needs_of("/keybroker.v1.KeyBroker/Other"), None);
    }
}
