//! Files: who may read those with secrets, and until when certificates are valid.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use secrecy::zeroize::Zeroizing;
use x509_parser::pem::Pem;

use super::{args::DoctorArgs, finding::Check};
use crate::{
    config::{Loaded, Sources},
    registry::seal::{FORMER_MASTER_KEYS, MASTER_KEY},
};

/// A certificate that ends within so many days is named.
const SOON: i64 = 14;
const DAY: i64 = 86_400;
/// A larger file holds neither keys nor certificates.
const LARGEST: u64 = 8 << 20;

pub(super) fn check(args: &DoctorArgs, loaded: Option<&Loaded>) -> Check {
    let mut check = Check::of("files");
    let mut files: Vec<PathBuf> = loaded.map(|loaded| loaded.files.clone()).unwrap_or_default();
    files.extend(args.serve.config.config.clone());
    files.extend(
        [&args.serve.redis_ca, &args.serve.redis_cert, &args.serve.redis_key].into_iter().flatten().cloned(),
    );
    files.extend(args.security.files().cloned());
    files.extend(master_key_files());
    files.sort_unstable();
    files.dedup();
    for file in &files {
        look(file, args, loaded, &mut check);
    }
    check.seen = format!("{} looked at", files.len());
    check
}

/// The files that the variables of master keys name.
fn master_key_files() -> impl Iterator<Item = PathBuf> {
    let env = Sources::of_process(None).env;
    let texts = [MASTER_KEY, FORMER_MASTER_KEYS].into_iter().filter_map(env).map(Zeroizing::new);
    let named = texts.flat_map(|text| {
        let files = text.split(',').filter_map(|part| part.trim().strip_prefix("file:"));
        files.map(PathBuf::from).collect::<Vec<_>>()
    });
    named.collect::<Vec<_>>().into_iter()
}

fn look(file: &Path, args: &DoctorArgs, loaded: Option<&Loaded>, check: &mut Check) {
    let shown = file.display();
    let Ok(meta) = fs::metadata(file) else {
        // Those of the configuration are its faults, and are named there.
        if loaded.is_some() {
            check.error(
                "file-unreadable",
                shown,
                "cannot be read",
                "correct the option or variable that names it",
            );
        }
        return;
    };
    if meta.len() > LARGEST {
        return;
    }
    let Ok(bytes) = fs::read(file).map(Zeroizing::new) else {
        let fix = "let the user that brokers run as read it";
        check.error("file-unreadable", shown, "cannot be read", fix);
        return;
    };
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    let is_config = loaded.and_then(|loaded| loaded.files.first()).is_some_and(|first| first == file)
        && text.contains("[[") | text.contains('=');
    let has_key = loaded
        .is_some_and(|loaded| loaded.catalogue.keys().any(|(_, key)| text.contains(key.secret.expose())));
    if has_key && is_config {
        let fix = "write secret = \"env:NAME\" or \"file:/path\" there, and keep the text where that says";
        check.warning("secret-in-config", &shown, "holds the texts of keys", fix);
    }
    let is_secret = has_key
        || text.contains("PRIVATE KEY-----")
        || args.security.token_file().is_some_and(|token| token == file)
        || master_key_files().any(|master| master == file);
    let mode = meta.permissions().mode() & 0o777;
    if is_secret && mode & 0o077 != 0 {
        let what = format!("holds a secret and is open to others of this host (mode {mode:03o})");
        let fix = format!("chmod 600 {shown}; in Kubernetes set defaultMode: 0400");
        check.warning("secret-file-open", &shown, what, &fix);
    }
    if text.contains("BEGIN CERTIFICATE") {
        certificates(file, &bytes, check);
    }
}

fn certificates(file: &Path, bytes: &[u8], check: &mut Check) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    for pem in Pem::iter_from_buffer(bytes).flatten().filter(|pem| pem.label == "CERTIFICATE") {
        let Ok(certificate) = pem.parse_x509() else { continue };
        let place = format!("{}, {}", file.display(), certificate.subject());
        let validity = certificate.validity();
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        if until <= now {
            let what = format!("the certificate has expired on {}", validity.not_after);
            check.error(
                "certificate-expired",
                place,
                what,
                "renew it; brokers take a new file up by themselves",
            );
        } else if from > now {
            let what = format!("the certificate is not valid before {}", validity.not_before);
            check.error(
                "certificate-not-yet-valid",
                place,
                what,
                "correct this host's clock, or have it issued anew",
            );
        } else if until - now < SOON * DAY {
            let what = format!("the certificate expires on {}", validity.not_after);
            check.warning(
                "certificate-expires",
                place,
                what,
                "renew it; brokers take a new file up by themselves",
            );
        }
    }
}
