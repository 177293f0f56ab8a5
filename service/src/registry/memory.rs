//! The registry in memory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rules::{self, Creation};
use super::{
    ByAge, ByKey, Certificate, CertificateId, CertificateStatus, Change, ChangeSender, Changes,
    Device, NewThing, Page, Policy, PolicyName, Registry, RegistryError, RegistryLimits, Thing,
    ThingPage, ThingQuery, ThingSearch, ThingUpdate,
};
use crate::clock::Timestamp;
use crate::tunnels::ThingName;

/// A registry that ends with the process.
///
/// Lists by age are sorted when they are asked for, and filters look at every thing: it is made for
/// tests and for trying things out.
pub struct MemoryRegistry {
    limits: RegistryLimits,
    tables: Mutex<Tables>,
    changes: ChangeSender,
}

#[derive(Default)]
struct Tables {
    things: BTreeMap<ThingName, Thing>,
    certificates: BTreeMap<CertificateId, Certificate>,
    policies: BTreeMap<PolicyName, Policy>,
    things_and_certificates: Links<ThingName, CertificateId>,
    policies_and_certificates: Links<PolicyName, CertificateId>,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new(limits: RegistryLimits) -> Self {
        Self {
            limits,
            tables: Mutex::default(),
            changes: ChangeSender::new(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No function below leaves the tables half changed when it panics.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, certificate: &CertificateId) {
        self.changes.send(Change::Certificate(*certificate));
    }
}

impl Tables {
    fn thing(&self, name: &ThingName) -> Result<&Thing, RegistryError> {
        let thing = self.things.get(name);
        thing.ok_or_else(|| RegistryError::ThingNotFound(name.clone()))
    }

    fn certificate(&self, id: &CertificateId) -> Result<&Certificate, RegistryError> {
        let certificate = self.certificates.get(id);
        certificate.ok_or(RegistryError::CertificateNotFound(*id))
    }

    fn policy(&self, name: &PolicyName) -> Result<&Policy, RegistryError> {
        let policy = self.policies.get(name);
        policy.ok_or_else(|| RegistryError::PolicyNotFound(name.clone()))
    }
}

impl Registry for MemoryRegistry {
    async fn create_thing(&self, new: NewThing) -> Result<Thing, RegistryError> {
        let mut tables = self.tables();
        let existing = tables.things.get(&new.name);
        match rules::create_thing(existing, tables.things.len(), new, &self.limits)? {
            Creation::Present(thing) => Ok(thing),
            Creation::Add(thing) => {
                tables.things.insert(thing.name.clone(), thing.clone());
                Ok(thing)
            }
        }
    }

    async fn thing(&self, name: &ThingName) -> Result<Thing, RegistryError> {
        self.tables().thing(name).cloned()
    }

    async fn thing_exists(&self, name: &ThingName) -> Result<bool, RegistryError> {
        Ok(self.tables().things.contains_key(name))
    }

    async fn list_things(&self, query: ThingQuery) -> Result<ThingPage, RegistryError> {
        let tables = self.tables();
        let mut search = ThingSearch::new(&query);
        let things = tables.things.range(after(query.after.as_ref()));
        for (_, thing) in things {
            if !search.look(thing.clone()) {
                break;
            }
        }
        Ok(search.page())
    }

    async fn update_thing(
        &self,
        name: &ThingName,
        update: ThingUpdate,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let next = rules::update_thing(tables.thing(name)?, &update, &self.limits)?;
        tables.things.insert(name.clone(), next);
        Ok(())
    }

    async fn delete_thing(
        &self,
        name: &ThingName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let Some(thing) = tables.things.get(name) else {
            return Ok(());
        };
        let certificates = tables.things_and_certificates.of_left(name).len();
        rules::delete_thing(thing, certificates, expected_version)?;
        tables.things.remove(name);
        drop(tables);
        self.changes.send(Change::ThingDeleted(name.clone()));
        Ok(())
    }

    async fn add_certificate(&self, new: Certificate) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let existing = tables.certificates.contains_key(&new.id);
        rules::add_certificate(&new, existing, tables.certificates.len(), &self.limits)?;
        tables.certificates.insert(new.id, new);
        Ok(())
    }

    async fn certificate(&self, id: &CertificateId) -> Result<Certificate, RegistryError> {
        self.tables().certificate(id).cloned()
    }

    async fn list_certificates(
        &self,
        query: ByAge<CertificateId>,
    ) -> Result<Page<Certificate>, RegistryError> {
        let tables = self.tables();
        let certificates = tables.certificates.values();
        Ok(by_age(certificates, query, |c| (c.created, c.id)))
    }

    async fn set_certificate_status(
        &self,
        now: Timestamp,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let Some(certificate) = tables.certificates.get_mut(id) else {
            return Err(RegistryError::CertificateNotFound(*id));
        };
        if certificate.status != status {
            certificate.status = status;
            certificate.updated = now;
        }
        drop(tables);
        self.changed(id);
        Ok(())
    }

    async fn delete_certificate(
        &self,
        id: &CertificateId,
        force: bool,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let certificate = tables.certificate(id)?;
        let things = tables.things_and_certificates.of_right(id).len();
        let policies = tables.policies_and_certificates.of_right(id).clone();
        rules::delete_certificate(certificate, things, policies.len(), force)?;
        for policy in policies {
            tables.policies_and_certificates.detach(&policy, id);
        }
        tables.certificates.remove(id);
        drop(tables);
        self.changed(id);
        Ok(())
    }

    async fn attach_thing(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        tables.thing(thing)?;
        tables.certificate(certificate)?;
        let links = &mut tables.things_and_certificates;
        if !links.of_left(thing).contains(certificate) {
            let certificates = links.of_left(thing).len();
            let things = links.of_right(certificate).len();
            rules::attach_thing(certificates, things, &self.limits)?;
            links.attach(thing, certificate);
        }
        drop(tables);
        self.changed(certificate);
        Ok(())
    }

    async fn detach_thing(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        tables.thing(thing)?;
        tables.certificate(certificate)?;
        tables.things_and_certificates.detach(thing, certificate);
        drop(tables);
        self.changed(certificate);
        Ok(())
    }

    async fn thing_certificates(
        &self,
        thing: &ThingName,
        query: ByKey<CertificateId>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        let tables = self.tables();
        tables.thing(thing)?;
        Ok(by_key(tables.things_and_certificates.of_left(thing), query))
    }

    async fn certificate_things(
        &self,
        certificate: &CertificateId,
        query: ByKey<ThingName>,
    ) -> Result<Page<ThingName>, RegistryError> {
        let tables = self.tables();
        tables.certificate(certificate)?;
        let things = tables.things_and_certificates.of_right(certificate);
        Ok(by_key(things, query))
    }

    async fn create_policy(&self, new: Policy) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let existing = tables.policies.contains_key(&new.name);
        rules::create_policy(&new, existing, tables.policies.len(), &self.limits)?;
        tables.policies.insert(new.name.clone(), new);
        Ok(())
    }

    async fn policy(&self, name: &PolicyName) -> Result<Policy, RegistryError> {
        self.tables().policy(name).cloned()
    }

    async fn list_policies(&self, query: ByAge<PolicyName>) -> Result<Page<Policy>, RegistryError> {
        let tables = self.tables();
        let policies = tables.policies.values();
        Ok(by_age(policies, query, |p| (p.created, p.name.clone())))
    }

    async fn delete_policy(&self, name: &PolicyName) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        let certificates = tables.policies_and_certificates.of_left(name).len();
        rules::delete_policy(tables.policy(name)?, certificates)?;
        tables.policies.remove(name);
        Ok(())
    }

    async fn attach_policy(
        &self,
        policy: &PolicyName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        tables.policy(policy)?;
        tables.certificate(certificate)?;
        let links = &mut tables.policies_and_certificates;
        if !links.of_left(policy).contains(certificate) {
            rules::attach_policy(links.of_right(certificate).len(), &self.limits)?;
            links.attach(policy, certificate);
        }
        drop(tables);
        self.changed(certificate);
        Ok(())
    }

    async fn detach_policy(
        &self,
        policy: &PolicyName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        let mut tables = self.tables();
        tables.policy(policy)?;
        tables.certificate(certificate)?;
        tables.policies_and_certificates.detach(policy, certificate);
        drop(tables);
        self.changed(certificate);
        Ok(())
    }

    async fn certificate_policies(
        &self,
        certificate: &CertificateId,
        query: ByKey<PolicyName>,
    ) -> Result<Page<PolicyName>, RegistryError> {
        let tables = self.tables();
        tables.certificate(certificate)?;
        let policies = tables.policies_and_certificates.of_right(certificate);
        Ok(by_key(policies, query))
    }

    async fn policy_certificates(
        &self,
        policy: &PolicyName,
        query: ByKey<CertificateId>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        let tables = self.tables();
        tables.policy(policy)?;
        let certificates = tables.policies_and_certificates.of_left(policy);
        Ok(by_key(certificates, query))
    }

    async fn device(&self, id: &CertificateId) -> Result<Option<Device>, RegistryError> {
        let tables = self.tables();
        let Some(certificate) = tables.certificates.get(id) else {
            return Ok(None);
        };
        let things = tables.things_and_certificates.of_right(id);
        let policies = tables.policies_and_certificates.of_right(id).iter();
        let documents = policies.filter_map(|name| tables.policies.get(name));
        Ok(Some(Device {
            status: certificate.status,
            things: things.iter().cloned().collect(),
            policies: documents.map(|policy| policy.document.clone()).collect(),
        }))
    }

    fn changes(&self) -> Changes {
        self.changes.listen()
    }
}

/// Which is attached to which, in both directions.
struct Links<L, R> {
    by_left: BTreeMap<L, BTreeSet<R>>,
    by_right: BTreeMap<R, BTreeSet<L>>,
    no_left: BTreeSet<L>,
    no_right: BTreeSet<R>,
}

impl<L: Ord + Clone, R: Ord + Clone> Links<L, R> {
    fn of_left(&self, left: &L) -> &BTreeSet<R> {
        self.by_left.get(left).unwrap_or(&self.no_right)
    }

    fn of_right(&self, right: &R) -> &BTreeSet<L> {
        self.by_right.get(right).unwrap_or(&self.no_left)
    }

    fn attach(&mut self, left: &L, right: &R) {
        let rights = self.by_left.entry(left.clone()).or_default();
        rights.insert(right.clone());
        let lefts = self.by_right.entry(right.clone()).or_default();
        lefts.insert(left.clone());
    }

    fn detach(&mut self, left: &L, right: &R) {
        remove(&mut self.by_left, left, right);
        remove(&mut self.by_right, right, left);
    }
}

impl<L, R> Default for Links<L, R> {
    fn default() -> Self {
        Self {
            by_left: BTreeMap::new(),
            by_right: BTreeMap::new(),
            no_left: BTreeSet::new(),
            no_right: BTreeSet::new(),
        }
    }
}

fn remove<K: Ord + Clone, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Entry::Occupied(mut entry) = map.entry(key.clone()) {
        entry.get_mut().remove(value);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

fn by_key<K: Ord + Clone>(keys: &BTreeSet<K>, query: ByKey<K>) -> Page<K> {
    let keys = keys.range(after(query.after.as_ref()));
    Page::take(query.count, keys.cloned())
}

fn by_age<'a, T: Clone + 'a, K: Ord>(
    items: impl Iterator<Item = &'a T>,
    query: ByAge<K>,
    place: impl Fn(&T) -> (Timestamp, K),
) -> Page<T> {
    let mut items: Vec<_> = items.collect();
    items.sort_by_cached_key(|item| place(item));
    if !query.ascending {
        items.reverse();
    }
    let follows = |item: &&&T| match &query.after {
        None => true,
        Some(last) if query.ascending => place(item) > *last,
        Some(last) => place(item) < *last,
    };
    let items = items.iter().filter(follows).map(|item| (*item).clone());
    Page::take(query.count, items)
}

fn after<K>(key: Option<&K>) -> (Bound<&K>, Bound<&K>) {
    (
        key.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}
