//! How commands that speak to a broker are let in: encryption, a client certificate, a token.

use std::path::PathBuf;

use clap::Args;
use keybroker_client::{Broker, BrokerBuilder, Tls};
use secrecy::{ExposeSecret, SecretString};

/// The variable that a token is read from. It is no option, since others can see those.
const TOKEN: &str = "KEYBROKER_TOKEN";

/// How to be let in. Addresses are encrypted if they begin with https:// or if any of --tls-* is given.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityArgs {
    /// Who signed the broker's certificate, in PEM form [default: the authorities of the system]
    #[arg(long, global = true, env = "KEYBROKER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate that is shown to the broker, in PEM form
    #[arg(long, global = true, env = "KEYBROKER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, global = true, env = "KEYBROKER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The name in the broker's certificate, where it is not the host of its address
    #[arg(long, global = true, env = "KEYBROKER_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,
    /// A file whose first line is the token; it may be in the variable KEYBROKER_TOKEN instead
    #[arg(long, global = true, env = "KEYBROKER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl SecurityArgs {
    /// The files it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.tls_ca, &self.tls_cert, &self.tls_key, &self.token_file].into_iter().flatten()
    }

    /// The file with the token.
    pub(crate) fn token_file(&self) -> Option<&PathBuf> {
        self.token_file.as_ref()
    }

    /// A builder of clients that are let in.
    ///
    /// # Errors
    /// What is wrong with the token.
    pub(crate) fn builder(&self, addresses: &str) -> Result<BrokerBuilder, String> {
        let mut builder = Broker::builder();
        if let Some(tls) = self.tls(addresses) {
            builder = builder.tls(tls);
        }
        if let Some(token) = self.token()? {
            builder = builder.token(&token).map_err(|error| error.to_string())?;
        }
        Ok(builder)
    }

    fn tls(&self, addresses: &str) -> Option<Tls> {
        let Self { tls_ca, tls_cert, tls_key, tls_server_name, .. } = self;
        let given = tls_ca.is_some() || tls_cert.is_some() || tls_key.is_some() || tls_server_name.is_some();
        if !given && !addresses.contains("https://") {
            return None;
        }
        let tls = tls_ca.iter().fold(Tls::new(), |tls, file| tls.ca_file(file));
        let tls = tls_cert.iter().fold(tls, |tls, file| tls.cert_file(file));
        let tls = tls_key.iter().fold(tls, |tls, file| tls.key_file(file));
        Some(tls_server_name.iter().fold(tls, |tls, name| tls.server_name(name)))
    }

    fn token(&self) -> Result<Option<SecretString>, String> {
        let text = match &self.token_file {
            Some(file) => std::fs::read_to_string(file).map(SecretString::from).map_err(|error| {
                format!("--token-file or KEYBROKER_TOKEN_FILE {}: {error}", file.display())
            })?,
            None => match std::env::var(TOKEN) {
                Ok(text) if !text.trim().is_empty() => SecretString::from(text),
                Ok(_) | Err(_) => return Ok(None),
            },
        };
        match text.expose_secret().lines().next().map(str::trim) {
            None | Some("") => {
                Err("--token-file or KEYBROKER_TOKEN_FILE names a file whose first line is empty".to_owned())
            }
            Some(line) => Ok(Some(SecretString::from(line))),
        }
    }
}
