//! What was found, for people and for programs.

use std::process::ExitCode;

use serde_json::json;

use super::finding::{Check, Finding, Severity};
use crate::operate::{Failure, print};

pub(super) fn show(checks: &[Check], as_json: bool) -> Result<ExitCode, Failure> {
    let findings: Vec<&Finding> = checks.iter().flat_map(|check| &check.findings).collect();
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if as_json {
        let checks: Vec<_> = checks
            .iter()
            .map(|check| json!({ "name": check.name, "seen": check.seen, "skipped": check.skipped }))
            .collect();
        print::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "errors": errors,
            "warnings": warnings,
            "checks": checks,
            "findings": findings,
        }))?;
    } else {
        print::line(&in_words(checks, &findings, errors, warnings))?;
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(checks: &[Check], findings: &[&Finding], errors: usize, warnings: usize) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mark = |check: &Check| match check.findings.iter().map(|finding| finding.severity).collect::<Vec<_>>()
    {
        severities if severities.contains(&Severity::Error) => "error",
        severities if !severities.is_empty() => "warning",
        _ if check.skipped => "-",
        _ => "ok",
    };
    let mut lines: Vec<String> = checks
        .iter()
        .map(|check| {
            format!("{:width$}  {:7}  {}", check.name, mark(check), check.seen).trim_end().to_owned()
        })
        .collect();
    for finding in findings {
        let Finding { id, severity, place, what, fix } = finding;
        let severity = if *severity == Severity::Error { "error" } else { "warning" };
        lines.push(format!("\n{severity} {id}: {place}: {what}\n  {fix}"));
    }
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    lines.push(match (errors, warnings) {
        (0, 0) => "\nnothing is wrong".to_owned(),
        _ => format!("\n{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    });
    lines.join("\n")
}
