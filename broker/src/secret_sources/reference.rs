//! What stands in the configuration in place of a secret.

/// Where a secret lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `command:PROGRAM ARGUMENTS`: the first line that it prints.
    Command(Vec<String>),
    /// `vault:MOUNT/PATH#FIELD`: a field of a secret in a key-value store, version 2.
    Vault {
        /// Where the store is mounted.
        mount: String,
        /// The path within it.
        path: String,
        /// The field of the secret.
        field: String,
    },
}

/// Why a text that begins like a reference is none, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReference {
    /// What is wrong.
    pub problem: &'static str,
    /// What to write.
    pub fix: &'static str,
}

const FIX_COMMAND: &str = "write \"command:/path/to/program its arguments\", quoted as in a shell";
const FIX_VAULT: &str = "write \"vault:mount/path#field\", such as \"vault:secret/gemini/team-a#api_key\"";

impl Reference {
    /// Reads a text that may be a reference; none if it does not begin like one. `mount` is that of all paths, if it is
    /// configured; else the first part of a path is.
    pub fn parse(text: &str, mount: Option<&str>) -> Option<Result<Self, BadReference>> {
        if let Some(line) = text.strip_prefix("command:") {
            return Some(command(line));
        }
        text.strip_prefix("vault:").map(|rest| vault(rest.trim(), mount))
    }

    /// Whether a document may hold one: where it does not, nothing has to be looked for.
    pub fn may_be_in(document: &str) -> bool {
        // A colon can be escaped, a letter too: then it is seen by the escape.
        ["command:", "vault:", "\\u", "\\U", "\\x"].iter().any(|sign| document.contains(sign))
    }

    /// Whether it lies in Vault.
    pub fn is_of_vault(&self) -> bool {
        matches!(self, Self::Vault { .. })
    }
}

fn command(line: &str) -> Result<Reference, BadReference> {
    match shlex::split(line) {
        None => {
            Err(BadReference { problem: "names a command with a quote that does not end", fix: FIX_COMMAND })
        }
        Some(words) if words.is_empty() => {
            Err(BadReference { problem: "names no command", fix: FIX_COMMAND })
        }
        Some(words) => Ok(Reference::Command(words)),
    }
}

fn vault(rest: &str, mount: Option<&str>) -> Result<Reference, BadReference> {
    let bad = |problem| BadReference { problem, fix: FIX_VAULT };
    let (path, field) = rest.split_once('#').ok_or(bad("names no field of a secret in Vault"))?;
    if field.is_empty() {
        return Err(bad("names no field of a secret in Vault"));
    }
    let (mount, path) = match mount {
        Some(mount) => (mount, path),
        None => path.split_once('/').ok_or(bad("names no path in Vault"))?,
    };
    let sound = |part: &str| {
        !part.is_empty()
            && part.split('/').all(|part| {
                !matches!(part, "" | "." | "..")
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~@:+=".contains(c))
            })
    };
    if !sound(mount) || !sound(path) {
        return Err(bad("names a path in Vault that cannot be one"));
    }
    Ok(Reference::Vault { mount: mount.to_owned(), path: path.to_owned(), field: field.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let parsed = Reference::parse("command: /bin/pass show 'team a'/key", None).unwrap().unwrap();
        let words = ["/bin/pass", "show", "team a/key"].map(str::to_owned);
        assert_eq!(parsed, Reference::Command(words.to_vec()));
        for bad in ["command:", "command:   ", "command:/bin/pass 'team"] {
            assert!(Reference::parse(bad, None).unwrap().is_err(), "{bad}");
        }
        assert_eq!(Reference::parse("fake-key", None), None);
    }

    #[test]
    fn a_path_in_vault_has_a_mount_and_a_field() {
        let read = |text, mount| match Reference::parse(text, mount).unwrap() {
            Ok(Reference::Vault { mount, path, field }) => Ok([mount, path, field]),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad.problem),
        };
        assert_eq!(read("vault:secret/gemini/a#key", None).unwrap(), ["secret", "gemini/a", "key"]);
        assert_eq!(read("vault:gemini/a#key", Some("kv/team")).unwrap(), ["kv/team", "gemini/a", "key"]);
        for bad in [
            "vault:",
            "vault:secret/a",
            "vault:secret/a#",
            "vault:secret#key",
            "vault:secret/../a#key",
            "vault:secret//a#key",
            "vault:secret/a?b#key",
        ] {
            assert!(read(bad, None).is_err(), "{bad}");
        }
    }
}
