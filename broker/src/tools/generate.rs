//! New secrets, printed once and kept nowhere.

use std::process::ExitCode;

use serde_json::json;

use crate::{
    access::{self, TokenDigest},
    operate::{print, run},
    registry::seal,
};

/// Prints a new master key.
pub fn generate_master_key(json: bool) -> ExitCode {
    run(async {
        let key = seal::generate_master_key();
        if json {
            print::json(&json!({ "master_key": *key }))?;
        } else {
            print::line(&key)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints a new token and its digest.
pub fn generate_token(json: bool) -> ExitCode {
    run(async {
        let token = access::generate_token();
        let digest = TokenDigest::of(&token).to_string();
        if json {
            print::json(&json!({ "token": *token, "token_sha256": digest }))?;
        } else {
            let note = "# for the configuration, in one of [[identities]]:";
            print::line(&format!("{}\n{note}\ntoken_sha256 = [\"{digest}\"]", *token))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
