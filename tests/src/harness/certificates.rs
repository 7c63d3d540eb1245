//! Authorities and what they sign, as files in PEM form.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tempfile::TempDir;

/// An authority, with a folder of what it has signed.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// For how long a certificate is valid, from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is valid.
    Valid,
    /// It was until a minute ago.
    Expired,
}

impl Authority {
    /// A new one; its own certificate is in `ca.pem`.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn new(name: &str) -> io::Result<Self> {
        Self::with_folder(name, TempDir::with_prefix("keybroker-tls")?)
    }

    /// A new one, whose folder has its name and is in this one.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn within(folder: &Path, name: &str) -> io::Result<Self> {
        Self::with_folder(name, tempfile::Builder::new().prefix(name).rand_bytes(0).tempdir_in(folder)?)
    }

    fn with_folder(name: &str, folder: TempDir) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).map_err(io::Error::other)?;
        fs::write(folder.path().join("ca.pem"), own.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder })
    }

    /// Signs a certificate for a name of DNS, an address or a URI; it is in `{file}.pem`, its key in `{file}.key`.
    ///
    /// # Errors
    /// If it cannot be signed or written.
    pub fn sign(&self, file: &str, name: &str, validity: Validity) -> io::Result<()> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, file);
        let text = || name.try_into().map_err(io::Error::other);
        params.subject_alt_names.push(if name.contains("://") {
            SanType::URI(text()?)
        } else {
            name.parse()
                .map_or_else(|_| text().map(SanType::DnsName), |address| Ok(SanType::IpAddress(address)))?
        });
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now();
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        params.not_before = (now - hour).into();
        params.not_after = if validity == Validity::Valid { now + hour } else { now - minute }.into();
        let signed = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem())?;
        fs::write(self.path(&format!("{file}.pem")), signed.pem())
    }

    /// A file of its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The same as text.
    pub fn file(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// What is in a file of its folder.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path(file))
    }
}
