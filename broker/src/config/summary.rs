//! What a start-up log says of a catalogue.

use crate::catalogue::{Catalogue, LimitRule, Project};

/// The most projects that get a line of their own, and the most keys named in one.
const LISTED_PROJECTS: usize = 20;
const LISTED_KEYS: usize = 8;

/// Lines that tell an operator what was understood: totals, then each pool, then its projects
/// with their keys (masked), as many as a log can bear.
pub fn summary(catalogue: &Catalogue) -> Vec<String> {
    let projects = catalogue.projects().count();
    let keys = catalogue.keys().count();
    let of_rules = |rules: &[LimitRule]| rules.iter().map(|rule| rule.limits.len()).sum::<usize>();
    let limits: usize = catalogue.pools.values().map(|pool| of_rules(&pool.limits)).sum::<usize>()
        + catalogue.projects().map(|(_, project)| of_rules(&project.limits)).sum::<usize>()
        + catalogue.keys().map(|(_, key)| of_rules(&key.limits)).sum::<usize>();
    let mut lines = vec![format!(
        "{}, {}, {}, {}; digest {}",
        counted(catalogue.pools.len(), "pool"),
        counted(projects, "project"),
        counted(keys, "key"),
        counted(limits, "limit"),
        catalogue.digest()
    )];
    for pool in catalogue.pools.values() {
        let keys = pool.projects.iter().map(|project| project.keys.len()).sum();
        lines.push(format!(
            "pool {}: {}, {}, send within {:?}, leases of {:?}{}",
            pool.name,
            counted(pool.projects.len(), "project"),
            counted(keys, "key"),
            pool.send_within,
            pool.lease_ttl,
            in_words(&pool.limits)
        ));
        lines.extend(pool.projects.iter().take(LISTED_PROJECTS).map(project_line));
        if pool.projects.len() > LISTED_PROJECTS {
            lines.push(format!("  and {} more", counted(pool.projects.len() - LISTED_PROJECTS, "project")));
        }
    }
    lines
}

fn project_line(project: &Project) -> String {
    let keys = project.keys.iter().take(LISTED_KEYS).map(|key| format!("{} {}", key.id, key.secret));
    let mut keys: Vec<_> = keys.collect();
    if project.keys.len() > LISTED_KEYS {
        keys.push(format!("and {} more", project.keys.len() - LISTED_KEYS));
    }
    let keys = if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") };
    let account = project.billing_account.as_ref().map(|account| format!(", account {account}"));
    let limits = in_words(&project.limits);
    format!("  project {} ({} tier{}): {keys}{limits}", project.id, project.tier, account.unwrap_or_default())
}

fn in_words(rules: &[LimitRule]) -> String {
    let rules = rules.iter().map(|rule| {
        let limits: Vec<_> = rule.limits.iter().map(ToString::to_string).collect();
        format!("{}: {}", rule.model, limits.join(", "))
    });
    let rules: Vec<_> = rules.collect();
    if rules.is_empty() { String::new() } else { format!("; {}", rules.join("; ")) }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
