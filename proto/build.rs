//! Compiles the contract with protox, so that no protoc is needed to build.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=keybroker");
    let descriptors = protox::compile(["keybroker/v1/keybroker.proto", "keybroker/v1/admin.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".keybroker.v1.HttpError.body")
        // Their texts are secrets; lib.rs prints the rest of them.
        .skip_debug([
            ".keybroker.v1.Key",
            ".keybroker.v1.ImportKeysRequest",
            ".keybroker.v1.RotateKeyRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
