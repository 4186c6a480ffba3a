//! Policies and profiles, with their compiled rules.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use hashbrown::HashMap;

use crate::compile::free_ids::FreeIds;
use crate::compile::ids::{GroupId, PolicyIx, ProfileIx};
use crate::compile::idset::IdSet;
use crate::compile::rules::{CompiledRules, Predicates, compile};
use crate::compile::selectors::SelectorIndex;
use crate::ir::Arena;
use crate::label::Name;
use crate::model::{Action, Cluster, EntityMatch, Policy, PolicyId, Profile, ProfileOrigin, Rule};
use crate::net::IpVersion;
use crate::verdict::Direction;

/// The rules of one direction, compiled while a program needs them.
#[derive(Debug, Default)]
pub(super) struct RuleList {
    compiled: Option<Compiled>,
    users: usize,
}

#[derive(Debug)]
struct Compiled {
    v4: CompiledRules,
    /// `None` when the same rules hold for both families.
    v6: Option<CompiledRules>,
}

impl RuleList {
    /// One program more. Compiles the rules for the first.
    pub(super) fn acquire(&mut self, rules: &[Rule], direction: Direction, predicates: &mut Predicates) {
        self.users = self.users.saturating_add(1);
        if self.compiled.is_none() {
            let v4 = compile(rules, direction, IpVersion::V4, predicates);
            let v6 =
                rules.iter().any(names_family).then(|| compile(rules, direction, IpVersion::V6, predicates));
            self.compiled = Some(Compiled { v4, v6 });
        }
    }

    /// One program less. Gives up what was compiled with the last.
    pub(super) fn release(&mut self, predicates: &mut Predicates) {
        self.users = self.users.saturating_sub(1);
        if self.users == 0
            && let Some(compiled) = self.compiled.take()
        {
            compiled.v4.release(predicates);
            compiled.v6.iter().for_each(|rules| rules.release(predicates));
        }
    }

    /// The rules for packets of `version`; `None` when no program needs them.
    pub(super) fn rules(&self, version: IpVersion) -> Option<&CompiledRules> {
        let compiled = self.compiled.as_ref()?;
        Some(match (version, &compiled.v6) {
            (IpVersion::V4, _) | (IpVersion::V6, None) => &compiled.v4,
            (IpVersion::V6, Some(v6)) => v6,
        })
    }

    /// Whether no program is to be made of the rules.
    pub(super) fn is_too_large(&self) -> bool {
        self.compiled.as_ref().is_some_and(|compiled| {
            compiled.v4.is_too_large || compiled.v6.as_ref().is_some_and(|v6| v6.is_too_large)
        })
    }

    /// Whether the same rules hold for both families.
    pub(super) fn is_common(&self) -> bool {
        self.compiled.as_ref().is_none_or(|compiled| compiled.v6.is_none())
    }
}

/// One version of a policy.
#[derive(Debug)]
pub(super) struct PolicyState {
    /// Without its rules, which stay where the objects are.
    pub(super) policy: Policy,
    /// The groups whose subject it applies to.
    pub(super) groups: IdSet<GroupId>,
    ingress: RuleList,
    egress: RuleList,
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
    ingress: RuleList,
    egress: RuleList,
    users: usize,
    /// Names that this version holds for: more than one for profiles that nobody declared and that say the same, as
    /// those of namespaces do. 0 when newer versions have taken its place everywhere.
    named: usize,
}

#[derive(Debug)]
pub(super) struct Policies {
    states: Arena<PolicyIx, PolicyState>,
    current: HashMap<PolicyId, PolicyIx>,
    pub(super) subjects: SelectorIndex<PolicyIx>,
    ids: FreeIds<PolicyIx>,
    profiles: Arena<ProfileIx, ProfileState>,
    current_profiles: HashMap<Name, ProfileIx>,
    /// Versions that may hold for several names.
    shared: Vec<ProfileIx>,
    profile_ids: FreeIds<ProfileIx>,
}

impl Policies {
    pub(super) fn new() -> Self {
        Self {
            states: Arena::new(),
            current: HashMap::new(),
            subjects: SelectorIndex::new(),
            ids: FreeIds::new(),
            profiles: Arena::new(),
            current_profiles: HashMap::new(),
            shared: Vec::new(),
            profile_ids: FreeIds::new(),
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
        let ix = self.ids.take();
        self.subjects.insert(ix, &policy.subject.expr);
        self.current.insert(policy.id.clone(), ix);
        let state = PolicyState {
            policy: policy.without_rules(),
            groups: IdSet::default(),
            ingress: RuleList::default(),
            egress: RuleList::default(),
            users: 0,
            replaced: false,
        };
        self.states.put(ix, state);
        ix
    }

    /// Takes the current version out, and returns the groups it applied to. Programs may still hold it.
    pub(super) fn retire(&mut self, ix: PolicyIx) -> IdSet<GroupId> {
        let Some(state) = self.states.lookup_mut(ix) else { return IdSet::default() };
        state.replaced = true;
        let groups = core::mem::take(&mut state.groups);
        self.subjects.remove(ix, &state.policy.subject.expr);
        self.current.remove(&state.policy.id);
        if state.users == 0 {
            self.states.take(ix);
            self.ids.give_back(ix);
        }
        groups
    }

    /// One program more that holds a version. Its rules are those of `cluster`: only current versions get new users.
    pub(super) fn acquire(
        &mut self,
        ix: PolicyIx,
        direction: Direction,
        cluster: &Cluster,
        predicates: &mut Predicates,
    ) {
        let Some(state) = self.states.lookup_mut(ix) else { return };
        state.users = state.users.saturating_add(1);
        let Some(policy) = cluster.policies().get(&state.policy.id) else { return };
        match direction {
            Direction::Ingress => state.ingress.acquire(&policy.ingress, direction, predicates),
            Direction::Egress => state.egress.acquire(&policy.egress, direction, predicates),
        }
    }

    pub(super) fn release(&mut self, ix: PolicyIx, direction: Direction, predicates: &mut Predicates) {
        let Some(state) = self.states.lookup_mut(ix) else { return };
        match direction {
            Direction::Ingress => state.ingress.release(predicates),
            Direction::Egress => state.egress.release(predicates),
        }
        state.users = state.users.saturating_sub(1);
        if state.users == 0 && state.replaced {
            self.states.take(ix);
            self.ids.give_back(ix);
        }
    }

    /// The version of a profile that holds now, made on first use.
    pub(super) fn profile_ix(&mut self, name: &Name, profile: Option<&Profile>) -> ProfileIx {
        if let Some(ix) = self.current_profiles.get(name) {
            return *ix;
        }
        let same = |ix: &ProfileIx| self.profiles.lookup(*ix).is_some_and(|state| state.says(profile));
        let ix = match self.shared.iter().copied().find(same) {
            Some(ix) => ix,
            None => self.make_profile(name, profile),
        };
        if let Some(state) = self.profiles.lookup_mut(ix) {
            state.named = state.named.saturating_add(1);
        }
        self.current_profiles.insert(name.clone(), ix);
        ix
    }

    fn make_profile(&mut self, name: &Name, profile: Option<&Profile>) -> ProfileIx {
        let ix = self.profile_ids.take();
        let state = ProfileState {
            name: name.clone(),
            profile: profile.map(|profile| Arc::new(profile.clone())),
            ingress: RuleList::default(),
            egress: RuleList::default(),
            users: 0,
            named: 0,
        };
        self.profiles.put(ix, state);
        if profile.is_some_and(is_implicit) {
            self.shared.push(ix);
        }
        ix
    }

    /// Forgets the current version of a profile, so that the next use makes a new one.
    pub(super) fn retire_profile(&mut self, name: &Name) {
        let Some(ix) = self.current_profiles.remove(name) else { return };
        if let Some(state) = self.profiles.lookup_mut(ix) {
            state.named = state.named.saturating_sub(1);
        }
        self.drop_unused_profile(ix);
    }

    fn drop_unused_profile(&mut self, ix: ProfileIx) {
        if self.profiles.lookup(ix).is_some_and(|state| state.named == 0) {
            self.shared.retain(|other| *other != ix);
            if self.profiles.lookup(ix).is_some_and(|state| state.users == 0) {
                self.profiles.take(ix);
                self.profile_ids.give_back(ix);
            }
        }
    }

    pub(super) fn end_commit(&mut self) {
        self.ids.end_commit();
        self.profile_ids.end_commit();
    }

    /// How many versions of policies and of profiles there are, each with how many numbers.
    pub(super) const fn slots(&self) -> [(usize, u32); 2] {
        [(self.states.len(), self.ids.bound()), (self.profiles.len(), self.profile_ids.bound())]
    }

    /// Whether the version that was taken in for `name` still holds.
    pub(super) fn is_current_profile(&self, name: &Name, now: Option<&Profile>) -> bool {
        let known = self.current_profiles.get(name).and_then(|ix| self.profiles.lookup(*ix));
        known.is_some_and(|known| known.profile.as_deref() == now || known.says(now))
    }

    pub(super) fn profile(&self, ix: ProfileIx) -> Option<&ProfileState> {
        self.profiles.lookup(ix)
    }

    pub(super) fn acquire_profile(
        &mut self,
        ix: ProfileIx,
        direction: Direction,
        predicates: &mut Predicates,
    ) {
        let Some(state) = self.profiles.lookup_mut(ix) else { return };
        state.users = state.users.saturating_add(1);
        let profile = state.profile.clone();
        let rules = profile_rules(profile.as_deref(), direction);
        state.rule_list_mut(direction).acquire(&rules, direction, predicates);
    }

    pub(super) fn release_profile(
        &mut self,
        ix: ProfileIx,
        direction: Direction,
        predicates: &mut Predicates,
    ) {
        let Some(state) = self.profiles.lookup_mut(ix) else { return };
        state.rule_list_mut(direction).release(predicates);
        state.users = state.users.saturating_sub(1);
        if state.users == 0 && state.profile.is_none() && self.current_profiles.get(&state.name) == Some(&ix)
        {
            // Only its last user tells when a missing profile is no longer missed.
            state.named = 0;
            self.current_profiles.remove(&state.name);
        }
        self.drop_unused_profile(ix);
    }
}

impl PolicyState {
    /// Whether a program holds this version.
    pub(super) const fn is_used(&self) -> bool {
        self.users > 0
    }

    pub(super) const fn rule_list(&self, direction: Direction) -> &RuleList {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl ProfileState {
    /// Whether it says the same as `profile`, and neither's name can be seen in any verdict.
    fn says(&self, profile: Option<&Profile>) -> bool {
        let (Some(a), Some(b)) = (&self.profile, profile) else { return false };
        is_implicit(a) && is_implicit(b) && a.ingress == b.ingress && a.egress == b.egress
    }

    pub(super) const fn rule_list(&self, direction: Direction) -> &RuleList {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    const fn rule_list_mut(&mut self, direction: Direction) -> &mut RuleList {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}

/// Whether a profile's name matters to nobody: it is not declared, and passes on no labels.
fn is_implicit(profile: &Profile) -> bool {
    profile.origin == ProfileOrigin::Implicit && profile.labels.is_empty()
}

/// Whether a rule tells the address families apart.
fn names_family(rule: &Rule) -> bool {
    let nets = |entity: &EntityMatch| !entity.nets.is_empty() || !entity.not_nets.is_empty();
    rule.ip_version.is_some() || nets(&rule.local) || rule.peers.iter().any(nets)
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
