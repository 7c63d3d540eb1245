//! What a broker does beside leasing: who is told, who may call, where secrets lie.

use super::super::Range::{Number, OneOf, Span, Truth, Words};
use super::super::Unwritten::{self, Required, Value};
use super::super::{Range, Table};
use super::{EVERYTHING, ID, IDS, NONE, TABLE, field};
use crate::access::Role;
use crate::catalogue::{HookFormat, Probing};
use crate::config::{hooks, log, probing, section::spoken, sources};
use crate::log::LogSettings;

pub(in crate::config) static HOOK: Table = Table {
    name: "hook",
    header: "[[hooks]]\n",
    limits: false,
    fields: &[
        field("name", ID, Required, "unique in the file"),
        field("events", Words("list"), Required, "events from below, or `[\"*\"]` for all"),
        field(
            "labels",
            Words("table of texts"),
            NONE,
            "only for requests that had **all** of these labels; an event that no request brought about has none",
        ),
        field("pools", Words("list of names"), Unwritten::Words("every pool"), "only for these pools"),
        field(
            "url",
            Words("http or https"),
            NONE,
            "where the event is posted; or where it lies, as for a [key](#secrets). It is treated as a secret, since some services put a token in it",
        ),
        field(
            "format",
            OneOf(|| HookFormat::ALL.map(HookFormat::as_str).to_vec()),
            Value(|| format!("\"{}\"", HookFormat::default().as_str())),
            "the form of what is posted",
        ),
        field(
            "command",
            Words("list of 1 to 64 texts"),
            NONE,
            "the absolute path of a program, and its arguments, instead of `url`",
        ),
        field(
            "cooldown",
            Span(hooks::COOLDOWN),
            Unwritten::Span(hooks::DEFAULT_COOLDOWN),
            "how long after one time it is not done again, by the whole fleet",
        ),
        field(
            "timeout",
            Span(hooks::TIMEOUT),
            Unwritten::Span(hooks::DEFAULT_TIMEOUT),
            "how long one try may take",
        ),
        field(
            "attempts",
            Number(hooks::ATTEMPTS),
            Value(|| hooks::DEFAULT_ATTEMPTS.to_string()),
            "how often it is tried",
        ),
    ],
};

pub(in crate::config) static PROBING: Table = Table {
    name: "probing",
    header: "[probing]\n",
    limits: false,
    fields: &[
        field(
            "enabled",
            Truth,
            Value(|| Probing::default().enabled.to_string()),
            "whether disabled keys are looked at at all",
        ),
        field(
            "leaked",
            Truth,
            Value(|| Probing::default().leaked.to_string()),
            "also keys that Google called leaked: it may take their use for an attack",
        ),
        field(
            "base_url",
            Words("http or https, without query"),
            Value(|| format!("\"{}\"", Probing::default().base_url)),
            "where Google is; without https, keys travel in the clear, which is warned of",
        ),
        field(
            "first",
            Span(probing::FIRST),
            Value(|| format!("\"{}\"", spoken(Probing::default().first))),
            "how long after a key was disabled it is first looked at",
        ),
        field(
            "longest",
            Span(probing::LONGEST),
            Value(|| format!("\"{}\"", spoken(Probing::default().longest))),
            "the longest interval; at least `first`",
        ),
        field(
            "model",
            Words("a model's name"),
            Value(|| format!("\"{}\"", Probing::default().model)),
            "whose tokens are counted",
        ),
    ],
};

pub(in crate::config) static LOG: Table = Table {
    name: "log",
    header: "[log]\n",
    limits: false,
    fields: &[
        field(
            "level",
            Words("`off`, `error`, `warn`, `info`, `debug`, `trace`, or directives"),
            Unwritten::Words("what `--log` says"),
            "what is logged, from when the file is read; [logs.md](logs.md) explains it",
        ),
        field(
            "refusals_per_second",
            Number(log::REFUSALS),
            Value(|| LogSettings::default().refusals_per_second.to_string()),
            "how many refusals of a pool for the same reason are logged a second",
        ),
    ],
};

pub(in crate::config) static IDENTITY: Table = Table {
    name: "identity",
    header: "[[identities]]\n",
    limits: false,
    fields: &[
        field("name", ID, Required, "as it stands in logs and in the record of changes"),
        field("roles", Range::ListOf(|| Role::ALL.map(Role::as_str).to_vec()), Required, "what it may do"),
        field(
            "token_sha256",
            Words("list of 64 hexadecimal digits"),
            NONE,
            "digests of its tokens, as `keybroker generate-token` prints them",
        ),
        field(
            "certificate_names",
            Words("list of texts, to 512 bytes"),
            NONE,
            "subject alternative names of its client certificates; needs `client_ca_file`",
        ),
        field(
            "token_subjects",
            Words("list of texts, to 512 bytes"),
            NONE,
            "the `sub` of its signed tokens; needs `[jwt]`",
        ),
        field("pools", IDS, EVERYTHING, "which pools it may use, see and change"),
        field(
            "models",
            Words("list of model names, perhaps with a star at the end"),
            EVERYTHING,
            "for which models it may lease, by the name it asks for",
        ),
        field(
            "consumers",
            Words("list of consumers, perhaps with a star at the end"),
            EVERYTHING,
            "for which consumers it may lease; the first holds for requests that name none, unless it ends in a star",
        ),
        field(
            "plan",
            Words("name of a [plan](#consumers)"),
            NONE,
            "limits all of its leases together, in each pool by itself, over all brokers",
        ),
    ],
};

pub(in crate::config) static TLS: Table = Table {
    name: "tls",
    header: "[tls]\n",
    limits: false,
    fields: &[
        field(
            "cert_file",
            Words("path"),
            Required,
            "the certificate that brokers show, then those between it and its authority, in PEM form",
        ),
        field("key_file", Words("path"), Required, "its private key, in PEM form"),
        field(
            "client_ca_file",
            Words("path"),
            NONE,
            "who signs certificates of clients, in PEM form; without it none are asked for",
        ),
    ],
};

pub(in crate::config) static JWT: Table = Table {
    name: "jwt",
    header: "[jwt]\n",
    limits: false,
    fields: &[
        field("issuer", Words("text"), Required, "the `iss` of tokens"),
        field("audience", Words("text"), Required, "what their `aud` must hold"),
        field("jwks_file", Words("path"), Required, "the issuer's public keys, a JSON Web Key Set"),
    ],
};

pub(in crate::config) static SECRETS: Table = Table {
    name: "secrets",
    header: "[secrets]\n",
    limits: false,
    fields: &[
        field(
            "refresh_every",
            Span(sources::REFRESH),
            Unwritten::Span(sources::DEFAULT_REFRESH),
            "how often what lies where no change is seen is fetched anew",
        ),
        field(
            "command_timeout",
            Span(sources::COMMAND),
            Unwritten::Span(sources::DEFAULT_COMMAND),
            "how long a program may take; then it is killed with all that it started",
        ),
    ],
};

pub(in crate::config) static VAULT: Table = Table {
    name: "vault",
    header: "[vault]\n",
    limits: false,
    fields: &[
        field(
            "address",
            Words("http or https"),
            Unwritten::Words("`VAULT_ADDR`"),
            "where it is; `http` is taken for this host alone",
        ),
        field(
            "token",
            Words("text"),
            Value(|| format!("\"{}\"", sources::DEFAULT_TOKEN)),
            "the token, or where it lies (`env:`, `file:`)",
        ),
        field(
            "kubernetes",
            TABLE,
            NONE,
            "in place of a token: it logs in as the pod's service account, with each fetch; its fields are below",
        ),
        field("namespace", Words("text"), NONE, "the namespace, of a Vault that has some"),
        field(
            "mount",
            Words("text"),
            Unwritten::Words("the first part of each path"),
            "where the store is mounted; paths are then written without it",
        ),
        field(
            "ca_file",
            Words("path"),
            Unwritten::Words("those of the system"),
            "further authorities, in PEM form",
        ),
    ],
};

pub(in crate::config) static KUBERNETES: Table = Table {
    name: "vault.kubernetes",
    header: "[vault]\naddress = \"https://vault.internal\"\n[vault.kubernetes]\n",
    limits: false,
    fields: &[
        field("role", Words("text"), Required, "the role of Vault to log in as"),
        field(
            "mount",
            Words("text"),
            Value(|| format!("\"{}\"", sources::DEFAULT_KUBERNETES)),
            "where that way to log in is mounted",
        ),
        field(
            "token_file",
            Words("path"),
            Value(|| format!("\"{}\"", sources::SERVICE_ACCOUNT)),
            "the service account's token",
        ),
    ],
};
