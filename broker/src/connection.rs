//! How commands that speak to a broker are let in: encryption, a client certificate, a token.

use std::{error::Error, path::PathBuf};

use clap::Args;
use keybroker_client::{Broker, BrokerBuilder, Error as ClientError, Tls};
use secrecy::{ExposeSecret, SecretString};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

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

    /// Where a broker is, and what is shown to it with each call.
    ///
    /// # Errors
    /// What is wrong with the address, the token or a file, by the option that names it.
    pub(crate) fn endpoint(&self, address: &str) -> Result<(Endpoint, Option<MetadataValue<Ascii>>), String> {
        let builder = self.builder(address)?;
        let endpoint = builder.endpoint(address).map_err(|error| unusable(&error))?;
        Ok((endpoint, builder.authorization().cloned()))
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

/// What is wrong with an address or how it is encrypted, by the option that names it.
pub(crate) fn unusable(error: &ClientError) -> String {
    match error {
        ClientError::InvalidTls { field, .. } => match field.split('_').next() {
            Some(part @ ("ca" | "cert" | "key")) => {
                format!("--tls-{part} or KEYBROKER_TLS_{}: {error}", part.to_uppercase())
            }
            _ => error.to_string(),
        },
        _ => format!("--broker or KEYBROKER_BROKER: {error}"),
    }
}

/// Why no connection came about, in words that say what to do.
pub(crate) fn not_connected(address: &str, error: &tonic::transport::Error) -> String {
    let cause = root_cause(error);
    if cause.contains("certificate") {
        return format!(
            "the certificate of the broker at {address} is not trusted ({cause}); name who signed it with --tls-ca, or \
             the name it is for with --tls-server-name"
        );
    }
    if cause.contains("InvalidContentType") {
        return format!("what answers at {address} does not speak TLS; write http:// before its address");
    }
    format!(
        "no broker answers at {address} ({cause}); start one with `keybroker serve`, or name another with --broker or \
         KEYBROKER_BROKER"
    )
}

/// What is at the bottom of an error.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
