//! Policies and profiles as units of compilation.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::compile::groups::{GroupId, SelectorIndex};
use crate::compile::rules::{CompiledRules, Questions, compile};
use crate::compile::signature::compiler_id;
use crate::ir::{Arena, Id};
use crate::label::Name;
use crate::model::{Action, Policy, PolicyId, Profile, Rule};
use crate::net::IpVersion;
use crate::verdict::Direction;

compiler_id!(
    /// One version of a policy: a changed policy gets a new one, so whatever refers to it changes too.
    PolicyIx
);
compiler_id!(
    /// One version of a profile, or of its absence.
    ProfileIx
);

/// The rules of one direction, compiled for both families while a program needs them.
#[derive(Debug, Default)]
pub(super) struct Unit {
    compiled: Option<[CompiledRules; 2]>,
    users: usize,
}

impl Unit {
    /// One program more. Compiles the rules for the first.
    pub(super) fn acquire(&mut self, rules: &[Rule], direction: Direction, questions: &mut Questions) {
        self.users = self.users.saturating_add(1);
        if self.compiled.is_none() {
            self.compiled = Some(
                [IpVersion::V4, IpVersion::V6].map(|version| compile(rules, direction, version, questions)),
            );
        }
    }

    /// One program less. Gives up what was compiled with the last.
    pub(super) fn release(&mut self, questions: &mut Questions) {
        self.users = self.users.saturating_sub(1);
        if self.users == 0
            && let Some(compiled) = self.compiled.take()
        {
            compiled.iter().for_each(|rules| rules.release(questions));
        }
    }

    /// The rules for packets of `version`; empty when no program needs them.
    pub(super) fn rules(&self, version: IpVersion) -> Option<&CompiledRules> {
        let [v4, v6] = self.compiled.as_ref()?;
        Some(match version {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        })
    }
}

/// One version of a policy.
#[derive(Debug)]
pub(super) struct PolicyState {
    pub(super) policy: Arc<Policy>,
    /// The groups whose subject it applies to.
    pub(super) groups: BTreeSet<GroupId>,
    ingress: Unit,
    egress: Unit,
    /// Programs that hold this version.
    users: usize,
    /// Whether a newer version, or none, has taken its place.
    replaced: bool,
}

/// One version of a profile.
#[derive(Debug)]
pub(super) struct ProfileState {
    pub(super) name: Name,
    /// `None` when it does not exist.
    pub(super) profile: Option<Arc<Profile>>,
    ingress: Unit,
    egress: Unit,
    users: usize,
    replaced: bool,
}

#[derive(Debug)]
pub(super) struct Policies {
    states: Arena<PolicyIx, PolicyState>,
    current: BTreeMap<PolicyId, PolicyIx>,
    pub(super) subjects: SelectorIndex<PolicyIx>,
    next: u32,
    profiles: Arena<ProfileIx, ProfileState>,
    current_profiles: BTreeMap<Name, ProfileIx>,
    next_profile: u32,
}

impl Policies {
    pub(super) fn new() -> Self {
        Self {
            states: Arena::new(),
            current: BTreeMap::new(),
            subjects: SelectorIndex::new(),
            next: 0,
            profiles: Arena::new(),
            current_profiles: BTreeMap::new(),
            next_profile: 0,
        }
    }

    pub(super) fn lookup(&self, ix: PolicyIx) -> Option<&PolicyState> {
        self.states.lookup(ix)
    }

    pub(super) fn lookup_mut(&mut self, ix: PolicyIx) -> Option<&mut PolicyState> {
        self.states.lookup_mut(ix)
    }

    pub(super) fn current(&self, id: &PolicyId) -> Option<PolicyIx> {
        self.current.get(id).copied()
    }

    /// Takes in a new version of a policy that has none.
    pub(super) fn insert(&mut self, policy: &Policy) -> PolicyIx {
        let ix = PolicyIx::new(self.next);
        self.next = self.next.wrapping_add(1);
        self.subjects.insert(ix, &policy.subject.expr);
        self.current.insert(policy.id.clone(), ix);
        let state = PolicyState {
            policy: Arc::new(policy.clone()),
            groups: BTreeSet::new(),
            ingress: Unit::default(),
            egress: Unit::default(),
            users: 0,
            replaced: false,
        };
        self.states.put(ix, state);
        ix
    }

    /// Takes the current version out, and returns the groups it applied to. Programs may still hold it.
    pub(super) fn retire(&mut self, ix: PolicyIx) -> BTreeSet<GroupId> {
        let Some(state) = self.states.lookup_mut(ix) else { return BTreeSet::new() };
        state.replaced = true;
        let groups = core::mem::take(&mut state.groups);
        let (policy, unused) = (state.policy.clone(), state.users == 0);
        self.subjects.remove(ix, &policy.subject.expr);
        self.current.remove(&policy.id);
        if unused {
            self.states.take(ix);
        }
        groups
    }

    pub(super) fn acquire(&mut self, ix: PolicyIx, direction: Direction, questions: &mut Questions) {
        let Some(state) = self.states.lookup_mut(ix) else { return };
        state.users = state.users.saturating_add(1);
        let policy = state.policy.clone();
        match direction {
            Direction::Ingress => state.ingress.acquire(&policy.ingress, direction, questions),
            Direction::Egress => state.egress.acquire(&policy.egress, direction, questions),
        }
    }

    pub(super) fn release(&mut self, ix: PolicyIx, direction: Direction, questions: &mut Questions) {
        let Some(state) = self.states.lookup_mut(ix) else { return };
        match direction {
            Direction::Ingress => state.ingress.release(questions),
            Direction::Egress => state.egress.release(questions),
        }
        state.users = state.users.saturating_sub(1);
        if state.users == 0 && state.replaced {
            self.states.take(ix);
        }
    }

    /// The version of a profile that holds now, made on first use.
    pub(super) fn profile_ix(&mut self, name: &Name, profile: Option<&Profile>) -> ProfileIx {
        if let Some(ix) = self.current_profiles.get(name) {
            return *ix;
        }
        let ix = ProfileIx::new(self.next_profile);
        self.next_profile = self.next_profile.wrapping_add(1);
        let state = ProfileState {
            name: name.clone(),
            profile: profile.map(|profile| Arc::new(profile.clone())),
            ingress: Unit::default(),
            egress: Unit::default(),
            users: 0,
            replaced: false,
        };
        self.profiles.put(ix, state);
        self.current_profiles.insert(name.clone(), ix);
        ix
    }

    /// Forgets the current version of a profile, so that the next use makes a new one.
    pub(super) fn retire_profile(&mut self, name: &Name) {
        let Some(ix) = self.current_profiles.remove(name) else { return };
        if let Some(state) = self.profiles.lookup_mut(ix) {
            state.replaced = true;
            if state.users == 0 {
                self.profiles.take(ix);
            }
        }
    }

    /// The version of a profile that was taken in, if any.
    pub(super) fn known_profile(&self, name: &Name) -> Option<&ProfileState> {
        self.profiles.lookup(*self.current_profiles.get(name)?)
    }

    pub(super) fn profile(&self, ix: ProfileIx) -> Option<&ProfileState> {
        self.profiles.lookup(ix)
    }

    pub(super) fn acquire_profile(&mut self, ix: ProfileIx, direction: Direction, questions: &mut Questions) {
        let Some(state) = self.profiles.lookup_mut(ix) else { return };
        state.users = state.users.saturating_add(1);
        let profile = state.profile.clone();
        let rules = profile_rules(profile.as_deref(), direction);
        state.unit_mut(direction).acquire(&rules, direction, questions);
    }

    pub(super) fn release_profile(&mut self, ix: ProfileIx, direction: Direction, questions: &mut Questions) {
        let Some(state) = self.profiles.lookup_mut(ix) else { return };
        state.unit_mut(direction).release(questions);
        state.users = state.users.saturating_sub(1);
        if state.users == 0 && state.replaced {
            self.profiles.take(ix);
        }
    }
}

impl PolicyState {
    pub(super) const fn unit(&self, direction: Direction) -> &Unit {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl ProfileState {
    pub(super) const fn unit(&self, direction: Direction) -> &Unit {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    const fn unit_mut(&mut self, direction: Direction) -> &mut Unit {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}

/// A profile's rules with its own reading of Pass, which denies (decision D6).
fn profile_rules(profile: Option<&Profile>, direction: Direction) -> Vec<Rule> {
    let Some(profile) = profile else { return vec![] };
    let mut rules = match direction {
        Direction::Ingress => profile.ingress.clone(),
        Direction::Egress => profile.egress.clone(),
    };
    for rule in &mut rules {
        if rule.action == Action::Pass {
            rule.action = Action::Deny;
        }
    }
    rules
}

/// Evaluation order inside a tier.
pub(super) fn cmp_policies(policies: &Policies, a: PolicyIx, b: PolicyIx) -> Ordering {
    match (policies.lookup(a), policies.lookup(b)) {
        (Some(a), Some(b)) => a.policy.cmp_in_tier(&b.policy),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}
