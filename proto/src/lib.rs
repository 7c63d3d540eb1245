//! The contract `keybroker.v1`, generated from `keybroker/v1/keybroker.proto` and
//! `keybroker/v1/admin.proto`.

/// Version 1 of the contract.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("keybroker.v1");
}

impl std::fmt::Debug for v1::Key {
    /// All but the key's text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("key_preview", &self.key_preview)
            .field("project", &self.project)
            .field("tier", &self.tier())
            .field("billing_account", &self.billing_account)
            .field("weight", &self.weight)
            .field("priority", &self.priority)
            .field("labels", &self.labels)
            .field("limits", &self.limits)
            .field("state", &self.state())
            .field("state_reason", &self.state_reason)
            .field("remove_when_drained", &self.remove_when_drained)
            .field("origin", &self.origin())
            .field("problem", &self.problem)
            .field("etag", &self.etag)
            .field("create_time", &self.create_time)
            .field("update_time", &self.update_time)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::ImportKeysRequest {
    /// All but the keys' texts.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportKeysRequest")
            .field("parent", &self.parent)
            .field("format", &self.format())
            .field("defaults", &self.defaults)
            .field("validate_only", &self.validate_only)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::RotateKeyRequest {
    /// All but the key's text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotateKeyRequest")
            .field("name", &self.name)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The `domain` of every `google.rpc.ErrorInfo` this service sends.
pub const ERROR_DOMAIN: &str = "keybroker.v1";
