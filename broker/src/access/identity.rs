//! An identity: what whoever proves to be it may do.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::{catalogue::NamePattern, secret::unknown_name};

/// What kinds of calls an identity may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes, renews and reports leases. No other role ever sees a key.
    Worker,
    /// Looks at keys, pools, limits, usage and the record of changes, without the texts of keys.
    Viewer,
    /// A viewer who also ends cooldowns, and disables, enables and drains keys.
    Operator,
    /// An operator who also creates, changes and deletes keys and pools.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Worker, Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether one who has this role may do what the other may.
    pub fn includes(self, other: Self) -> bool {
        match other {
            Self::Worker => self == Self::Worker,
            _ => self != Self::Worker && self >= other,
        }
    }
}

/// One of `[[identities]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, as it stands in logs and records.
    pub name: String,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// In which pools.
    pub pools: Vec<NamePattern>,
    /// For which models it may lease.
    pub models: Vec<NamePattern>,
    /// For which consumers it may lease.
    pub consumers: Vec<NamePattern>,
    /// The plan that limits all of its leases together, in each pool.
    pub plan: Option<String>,
}

impl Identity {
    /// One without roles that is not restricted otherwise.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            roles: BTreeSet::new(),
            pools: vec![NamePattern::Any],
            models: vec![NamePattern::Any],
            consumers: vec![NamePattern::Any],
            plan: None,
        }
    }
}

/// Why a call is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It is not known who calls.
    Unauthenticated(String),
    /// Whoever it is may not do this.
    Forbidden(String),
}

impl Denied {
    pub(super) fn unauthenticated(why: impl Into<String>) -> Self {
        Self::Unauthenticated(why.into())
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated(why) | Self::Forbidden(why) => f.write_str(why),
        }
    }
}

/// Whoever calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Option<Arc<Identity>>);

impl Caller {
    /// Anyone, where nobody has to say who they are.
    pub fn anyone() -> Self {
        Self(None)
    }

    /// One who may do nothing.
    pub fn nobody() -> Self {
        let none =
            Identity { pools: Vec::new(), models: Vec::new(), consumers: Vec::new(), ..Identity::named("") };
        Self(Some(Arc::new(none)))
    }

    /// This identity.
    pub fn of(identity: Arc<Identity>) -> Self {
        Self(Some(identity))
    }

    /// The identity's name; empty where nobody has to say who they are.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("", |identity| &identity.name)
    }

    /// The plan that limits all leases of the identity together.
    pub fn plan(&self) -> Option<&str> {
        self.0.as_ref()?.plan.as_deref()
    }

    /// Whether it may do what a role may.
    pub fn has(&self, role: Role) -> bool {
        self.0.as_ref().is_none_or(|identity| identity.roles.iter().any(|own| own.includes(role)))
    }

    /// Passes if it may use all pools.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may_use_all_pools(&self) -> Result<(), Denied> {
        match &self.0 {
            Some(identity) if !identity.pools.contains(&NamePattern::Any) => Err(Denied::Forbidden(format!(
                "identity {} may not use all pools; name one of its own: {}",
                identity.name,
                list(&identity.pools)
            ))),
            _ => Ok(()),
        }
    }

    /// Passes if it may use a pool, whether there is one of that name or not.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may_use_pool(&self, pool: &str) -> Result<(), Denied> {
        self.may("use pool", pool, |identity| &identity.pools)
    }

    /// Whether it may use a pool.
    pub fn uses_pool(&self, pool: &str) -> bool {
        let may = |identity: &Arc<Identity>| identity.pools.iter().any(|pattern| pattern.matches(pool));
        self.0.as_ref().is_none_or(may)
    }

    /// Those of these pools that it may use.
    #[must_use]
    pub fn own_pools(&self, mut pools: Vec<String>) -> Vec<String> {
        pools.retain(|pool| self.uses_pool(pool));
        pools
    }

    /// Passes if it may lease for a model, by the id that was asked for.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may_use_model(&self, model: &str) -> Result<(), Denied> {
        self.may("lease for model", model, |identity| &identity.models)
    }

    /// The consumer that a request counts for: the one it names, if that is one of the identity's; where it
    /// names none, the first of the identity's if that is a whole name.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn consumer<'a>(&'a self, named: &'a str) -> Result<&'a str, Denied> {
        if !named.is_empty() {
            return self.may("lease for consumer", named, |identity| &identity.consumers).map(|()| named);
        }
        match self.0.as_ref().map(|identity| (identity, identity.consumers.as_slice())) {
            None | Some((_, [NamePattern::Any, ..])) => Ok(""),
            Some((_, [NamePattern::Exact(first), ..])) => Ok(first),
            Some((identity, consumers)) => Err(Denied::Forbidden(format!(
                "identity {} must name a consumer with each request, one of: {}",
                identity.name,
                list(consumers)
            ))),
        }
    }

    fn may(
        &self,
        what: &str,
        name: &str,
        patterns: impl Fn(&Identity) -> &Vec<NamePattern>,
    ) -> Result<(), Denied> {
        let Some(identity) = &self.0 else { return Ok(()) };
        let patterns = patterns(identity);
        if patterns.iter().any(|pattern| pattern.matches(name)) {
            return Ok(());
        }
        Err(Denied::Forbidden(format!(
            "identity {} may not {what} {:?}; it may: {}",
            identity.name,
            unknown_name(name),
            list(patterns)
        )))
    }

    /// Passes if it has a role.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn must_have(&self, role: Role) -> Result<(), Denied> {
        match &self.0 {
            Some(identity) if !self.has(role) => {
                let roles: Vec<&str> = identity.roles.iter().map(|role| role.as_str()).collect();
                Err(Denied::Forbidden(format!(
                    "this call needs the role {}; identity {} has: {}",
                    role.as_str(),
                    identity.name,
                    roles.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }
}

fn list(patterns: &[NamePattern]) -> String {
    patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(change: impl FnOnce(&mut Identity)) -> Caller {
        let mut identity = Identity::named("nightly");
        change(&mut identity);
        Caller::of(Arc::new(identity))
    }

    #[test]
    fn a_higher_role_includes_the_lower_ones_and_none_includes_a_worker() {
        let included = |role: Role| Role::ALL.map(|other| role.includes(other));
        assert_eq!(included(Role::Worker), [true, false, false, false]);
        assert_eq!(included(Role::Viewer), [false, true, false, false]);
        assert_eq!(included(Role::Operator), [false, true, true, false]);
        assert_eq!(included(Role::Admin), [false, true, true, true]);
    }

    #[test]
    fn pools_and_models_are_those_that_were_named() {
        let caller = caller(|identity| {
            identity.pools = vec![NamePattern::Exact("batch".to_owned())];
            identity.models = vec![NamePattern::Prefix("gemini-2.5-".to_owned())];
        });
        caller.may_use_pool("batch").unwrap();
        let denied = caller.may_use_pool("default").unwrap_err().to_string();
        assert_eq!(denied, "identity nightly may not use pool \"default\"; it may: batch");
        let pools = ["default", "batch"].map(str::to_owned).to_vec();
        assert_eq!(caller.own_pools(pools.clone()), ["batch"]);
        assert_eq!(Caller::anyone().own_pools(pools.clone()), pools);
        assert!(Caller::nobody().own_pools(pools).is_empty());
        assert!(caller.may_use_all_pools().unwrap_err().to_string().contains("batch"));
        caller.may_use_model("gemini-2.5-flash").unwrap();
        caller.may_use_model("gemini-3-pro").unwrap_err();
    }

    #[test]
    fn a_request_cannot_leave_the_plan_of_its_consumer_by_naming_none() {
        let one = caller(|identity| identity.consumers = vec![NamePattern::Exact("nightly".to_owned())]);
        assert_eq!(one.consumer("").unwrap(), "nightly");
        assert_eq!(one.consumer("nightly").unwrap(), "nightly");
        one.consumer("ann").unwrap_err();
        let some = caller(|identity| identity.consumers = vec![NamePattern::Prefix("team-".to_owned())]);
        some.consumer("").unwrap_err();
        assert_eq!(some.consumer("team-a").unwrap(), "team-a");
        assert_eq!(caller(|_| ()).consumer("").unwrap(), "");
    }
}
