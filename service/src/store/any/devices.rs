//! The registry, the mailbox and the audit of whichever store there is.

use std::sync::Arc;
use std::time::Duration;

use super::AnyStore;
use crate::audit::{AuditError, AuditLog, AuditSink, Record};
use crate::clock::Timestamp;
use crate::notify::{Mailbox, MailboxError, Message, Opened, Qos, Queued, SessionStart};
use crate::registry::{
    ByAge, ByKey, Certificate, CertificateId, CertificateStatus, Changes, Device, NewThing, Page,
    Policy, PolicyName, Registry, RegistryError, Thing, ThingPage, ThingQuery, ThingUpdate,
};
use crate::tunnels::ThingName;

impl Registry for AnyStore {
    async fn create_thing(&self, new: NewThing) -> Result<Thing, RegistryError> {
        each!(self, registry, store => store.create_thing(new).await)
    }

    async fn thing(&self, name: &ThingName) -> Result<Thing, RegistryError> {
        each!(self, registry, store => store.thing(name).await)
    }

    async fn thing_exists(&self, name: &ThingName) -> Result<bool, RegistryError> {
        each!(self, registry, store => store.thing_exists(name).await)
    }

    async fn list_things(&self, query: ThingQuery) -> Result<ThingPage, RegistryError> {
        each!(self, registry, store => store.list_things(query).await)
    }

    async fn update_thing(
        &self,
        name: &ThingName,
        update: ThingUpdate,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.update_thing(name, update).await)
    }

    async fn delete_thing(
        &self,
        name: &ThingName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.delete_thing(name, expected_version).await)?;
        // The other stores have done it in the same transaction.
        if let Self::Memory(parts) = self {
            parts.mailbox.forget(name);
        }
        Ok(())
    }

    async fn add_certificate(&self, new: Certificate) -> Result<(), RegistryError> {
        each!(self, registry, store => store.add_certificate(new).await)
    }

    async fn certificate(&self, id: &CertificateId) -> Result<Certificate, RegistryError> {
        each!(self, registry, store => store.certificate(id).await)
    }

    async fn list_certificates(
        &self,
        query: ByAge<CertificateId>,
    ) -> Result<Page<Certificate>, RegistryError> {
        each!(self, registry, store => store.list_certificates(query).await)
    }

    async fn set_certificate_status(
        &self,
        now: Timestamp,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.set_certificate_status(now, id, status).await)
    }

    async fn delete_certificate(
        &self,
        id: &CertificateId,
        force: bool,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.delete_certificate(id, force).await)
    }

    async fn attach_thing(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.attach_thing(thing, certificate).await)
    }

    async fn detach_thing(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.detach_thing(thing, certificate).await)
    }

    async fn thing_certificates(
        &self,
        thing: &ThingName,
        query: ByKey<CertificateId>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        each!(self, registry, store => store.thing_certificates(thing, query).await)
    }

    async fn certificate_things(
        &self,
        certificate: &CertificateId,
        query: ByKey<ThingName>,
    ) -> Result<Page<ThingName>, RegistryError> {
        each!(self, registry, store => store.certificate_things(certificate, query).await)
    }

    async fn create_policy(&self, new: Policy) -> Result<(), RegistryError> {
        each!(self, registry, store => store.create_policy(new).await)
    }

    async fn policy(&self, name: &PolicyName) -> Result<Policy, RegistryError> {
        each!(self, registry, store => store.policy(name).await)
    }

    async fn list_policies(&self, query: ByAge<PolicyName>) -> Result<Page<Policy>, RegistryError> {
        each!(self, registry, store => store.list_policies(query).await)
    }

    async fn delete_policy(&self, name: &PolicyName) -> Result<(), RegistryError> {
        each!(self, registry, store => store.delete_policy(name).await)
    }

    async fn attach_policy(
        &self,
        policy: &PolicyName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.attach_policy(policy, certificate).await)
    }

    async fn detach_policy(
        &self,
        policy: &PolicyName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        each!(self, registry, store => store.detach_policy(policy, certificate).await)
    }

    async fn certificate_policies(
        &self,
        certificate: &CertificateId,
        query: ByKey<PolicyName>,
    ) -> Result<Page<PolicyName>, RegistryError> {
        each!(self, registry, store => store.certificate_policies(certificate, query).await)
    }

    async fn policy_certificates(
        &self,
        policy: &PolicyName,
        query: ByKey<CertificateId>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        each!(self, registry, store => store.policy_certificates(policy, query).await)
    }

    async fn device(&self, certificate: &CertificateId) -> Result<Option<Device>, RegistryError> {
        each!(self, registry, store => store.device(certificate).await)
    }

    fn changes(&self) -> Changes {
        each!(self, registry, store => store.changes())
    }
}

impl Mailbox for AnyStore {
    async fn open(
        &self,
        now: Timestamp,
        thing: &ThingName,
        start: SessionStart,
    ) -> Result<Opened, MailboxError> {
        each!(self, mailbox, store => store.open(now, thing, start).await)
    }

    async fn renew(
        &self,
        thing: &ThingName,
        connection: u64,
        until: Timestamp,
    ) -> Result<bool, MailboxError> {
        each!(self, mailbox, store => store.renew(thing, connection, until).await)
    }

    async fn close(
        &self,
        now: Timestamp,
        thing: &ThingName,
        connection: u64,
        keep: Duration,
    ) -> Result<(), MailboxError> {
        each!(self, mailbox, store => store.close(now, thing, connection, keep).await)
    }

    async fn subscribe(
        &self,
        thing: &ThingName,
        connection: u64,
        subscription: Option<Qos>,
    ) -> Result<bool, MailboxError> {
        each!(self, mailbox, store => store.subscribe(thing, connection, subscription).await)
    }

    async fn push(
        &self,
        now: Timestamp,
        thing: &ThingName,
        message: Message,
    ) -> Result<bool, MailboxError> {
        each!(self, mailbox, store => store.push(now, thing, message).await)
    }

    async fn next(
        &self,
        now: Timestamp,
        thing: &ThingName,
        connection: u64,
    ) -> Result<Option<Queued>, MailboxError> {
        each!(self, mailbox, store => store.next(now, thing, connection).await)
    }

    async fn settle(
        &self,
        thing: &ThingName,
        connection: u64,
        id: u64,
    ) -> Result<(), MailboxError> {
        each!(self, mailbox, store => store.settle(thing, connection, id).await)
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, MailboxError> {
        each!(self, mailbox, store => store.expire(now).await)
    }
}

impl AuditSink for AnyStore {
    async fn append(&self, record: Arc<Record>) -> Result<(), AuditError> {
        each!(self, audit, store => store.append(record).await)
    }
}

impl AuditLog for AnyStore {
    async fn append_all(&self, records: Vec<Arc<Record>>) -> Result<(), AuditError> {
        each!(self, audit, store => store.append_all(records).await)
    }

    async fn latest(&self, count: usize) -> Result<Vec<String>, AuditError> {
        each!(self, audit, store => store.latest(count).await)
    }
}
