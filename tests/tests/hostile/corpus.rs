//! Good examples, and what once failed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The good examples of a target, one a file.
pub(crate) fn examples(target: &str) -> Vec<Vec<u8>> {
    files(&folder(target))
}

/// What once failed.
pub(crate) fn regressions(target: &str) -> Vec<Vec<u8>> {
    files(&folder(target).join("regressions"))
}

/// Keeps what failed, to be tried first from now on; where it lies.
pub(crate) fn keep(target: &str, input: &[u8]) -> io::Result<PathBuf> {
    use sha2::Digest;
    let folder = folder(target).join("regressions");
    fs::create_dir_all(&folder)?;
    let path = folder.join(hex::encode(&sha2::Sha256::digest(input)[..8]));
    fs::write(&path, input)?;
    Ok(path)
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}
