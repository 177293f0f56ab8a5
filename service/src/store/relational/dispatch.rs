//! The registry, the mailbox and the audit of a store whose tables they are in.
//!
//! A store brings two macros: `$change!(self, db => operation)` runs an operation in a transaction and
//! answers when it is durable; `$look!` runs one that only reads. And `shared_time` and `own_time`, between
//! the steady time of this process and that of the tables.

use crate::registry::RegistryError;

/// What became of a change, and of which asking for it that is the answer.
pub(in crate::store) enum Certain {
    Once(Result<(), RegistryError>),
    Twice(Result<(), RegistryError>),
}

/// Asks for a change, and once more where it is not known whether it was made: who asks again has waited for a commit
/// that was under way, and is refused what was done already.
pub(in crate::store) async fn certain<F>(ask: impl Fn() -> F) -> Certain
where
    F: Future<Output = Result<(), RegistryError>>,
{
    match ask().await {
        Err(RegistryError::Uncertain) => Certain::Twice(ask().await),
        answer => Certain::Once(answer),
    }
}

/// `Registry` by [`relational::registry`](super::registry).
macro_rules! registry_in_tables {
    ($store:ty, $change:ident, $look:ident) => {
        impl Registry for $store {
            async fn create_thing(&self, new: NewThing) -> Result<Thing, RegistryError> {
                let limits = Arc::clone(&self.registry_limits);
                $change!(self, db => registry::create_thing(db, &limits, new))
            }

            async fn thing(&self, name: &ThingName) -> Result<Thing, RegistryError> {
                let name = name.clone();
                $look!(self, db => registry::thing(db, &name))
            }

            async fn thing_exists(&self, name: &ThingName) -> Result<bool, RegistryError> {
                let name = name.clone();
                $look!(self, db => registry::thing_exists(db, &name))
            }

            async fn list_things(&self, query: ThingQuery) -> Result<ThingPage, RegistryError> {
                $look!(self, db => registry::list_things(db, &query))
            }

            async fn update_thing(
                &self,
                name: &ThingName,
                update: ThingUpdate,
            ) -> Result<(), RegistryError> {
                let (limits, name) = (Arc::clone(&self.registry_limits), name.clone());
                $change!(self, db => registry::update_thing(db, &limits, &name, &update))
            }

            async fn delete_thing(
                &self,
                name: &ThingName,
                expected_version: Option<u64>,
            ) -> Result<(), RegistryError> {
                let name = name.clone();
                $change!(self, db => registry::delete_thing(db, &name, expected_version))
            }

            async fn add_certificate(&self, new: Certificate) -> Result<(), RegistryError> {
                let add = || {
                    let (limits, new) = (Arc::clone(&self.registry_limits), new.clone());
                    async move { $change!(self, db => registry::add_certificate(db, &limits, &new)) }
                };
                match certain(add).await {
                    Certain::Twice(Err(RegistryError::CertificateExists(id)))
                        if self.certificate(&id).await.as_ref() == Ok(&new) =>
                    {
                        Ok(())
                    }
                    Certain::Once(added) | Certain::Twice(added) => added,
                }
            }

            async fn certificate(&self, id: &CertificateId) -> Result<Certificate, RegistryError> {
                let id = *id;
                $look!(self, db => registry::certificate(db, &id))
            }

            async fn list_certificates(
                &self,
                query: ByAge<CertificateId>,
            ) -> Result<Page<Certificate>, RegistryError> {
                $look!(self, db => registry::list_certificates(db, &query))
            }

            async fn set_certificate_status(
                &self,
                now: Timestamp,
                id: &CertificateId,
                status: CertificateStatus,
            ) -> Result<(), RegistryError> {
                let id = *id;
                $change!(self, db => registry::set_certificate_status(db, now, &id, status))
            }

            async fn delete_certificate(
                &self,
                id: &CertificateId,
                force: bool,
            ) -> Result<(), RegistryError> {
                let delete = || {
                    let id = *id;
                    async move { $change!(self, db => registry::delete_certificate(db, &id, force)) }
                };
                match certain(delete).await {
                    Certain::Twice(Err(RegistryError::CertificateNotFound(_))) => Ok(()),
                    Certain::Once(deleted) | Certain::Twice(deleted) => deleted,
                }
            }

            async fn attach_thing(
                &self,
                thing: &ThingName,
                certificate: &CertificateId,
            ) -> Result<(), RegistryError> {
                let limits = Arc::clone(&self.registry_limits);
                let (thing, id) = (thing.clone(), *certificate);
                $change!(self, db => registry::attach_thing(db, &limits, &thing, &id))
            }

            async fn detach_thing(
                &self,
                thing: &ThingName,
                certificate: &CertificateId,
            ) -> Result<(), RegistryError> {
                let (thing, id) = (thing.clone(), *certificate);
                $change!(self, db => registry::detach_thing(db, &thing, &id))
            }

            async fn thing_certificates(
                &self,
                thing: &ThingName,
                query: ByKey<CertificateId>,
            ) -> Result<Page<CertificateId>, RegistryError> {
                let thing = thing.clone();
                $look!(self, db => registry::thing_certificates(db, &thing, &query))
            }

            async fn certificate_things(
                &self,
                certificate: &CertificateId,
                query: ByKey<ThingName>,
            ) -> Result<Page<ThingName>, RegistryError> {
                let id = *certificate;
                $look!(self, db => registry::certificate_things(db, &id, &query))
            }

            async fn create_policy(&self, new: Policy) -> Result<(), RegistryError> {
                let create = || {
                    let (limits, new) = (Arc::clone(&self.registry_limits), new.clone());
                    async move { $change!(self, db => registry::create_policy(db, &limits, &new)) }
                };
                match certain(create).await {
                    Certain::Twice(Err(RegistryError::PolicyExists(name)))
                        if self.policy(&name).await.as_ref() == Ok(&new) =>
                    {
                        Ok(())
                    }
                    Certain::Once(created) | Certain::Twice(created) => created,
                }
            }

            async fn policy(&self, name: &PolicyName) -> Result<Policy, RegistryError> {
                let name = name.clone();
                $look!(self, db => registry::policy(db, &name))
            }

            async fn list_policies(
                &self,
                query: ByAge<PolicyName>,
            ) -> Result<Page<Policy>, RegistryError> {
                $look!(self, db => registry::list_policies(db, &query))
            }

            async fn delete_policy(&self, name: &PolicyName) -> Result<(), RegistryError> {
                let delete = || {
                    let name = name.clone();
                    async move { $change!(self, db => registry::delete_policy(db, &name)) }
                };
                match certain(delete).await {
                    Certain::Twice(Err(RegistryError::PolicyNotFound(_))) => Ok(()),
                    Certain::Once(deleted) | Certain::Twice(deleted) => deleted,
                }
            }

            async fn attach_policy(
                &self,
                policy: &PolicyName,
                certificate: &CertificateId,
            ) -> Result<(), RegistryError> {
                let limits = Arc::clone(&self.registry_limits);
                let (policy, id) = (policy.clone(), *certificate);
                $change!(self, db => registry::attach_policy(db, &limits, &policy, &id))
            }

            async fn detach_policy(
                &self,
                policy: &PolicyName,
                certificate: &CertificateId,
            ) -> Result<(), RegistryError> {
                let (policy, id) = (policy.clone(), *certificate);
                $change!(self, db => registry::detach_policy(db, &policy, &id))
            }

            async fn certificate_policies(
                &self,
                certificate: &CertificateId,
                query: ByKey<PolicyName>,
            ) -> Result<Page<PolicyName>, RegistryError> {
                let id = *certificate;
                $look!(self, db => registry::certificate_policies(db, &id, &query))
            }

            async fn policy_certificates(
                &self,
                policy: &PolicyName,
                query: ByKey<CertificateId>,
            ) -> Result<Page<CertificateId>, RegistryError> {
                let policy = policy.clone();
                $look!(self, db => registry::policy_certificates(db, &policy, &query))
            }

            async fn device(
                &self,
                certificate: &CertificateId,
            ) -> Result<Option<Device>, RegistryError> {
                let id = *certificate;
                $look!(self, db => registry::device(db, &id))
            }

            fn changes(&self) -> Changes {
                self.registry_changes.listen()
            }
        }
    };
}
pub(in crate::store) use registry_in_tables;

/// `Mailbox` by [`relational::mailbox`](super::mailbox).
macro_rules! mailbox_in_tables {
    ($store:ty, $change:ident, $look:ident) => {
        impl Mailbox for $store {
            async fn open(
                &self,
                now: Timestamp,
                thing: &ThingName,
                start: SessionStart,
            ) -> Result<Opened, MailboxError> {
                let (limits, thing) = (self.mailbox_limits, thing.clone());
                let now = self.shared_time(now);
                let until = self.shared_time(start.until);
                let start = SessionStart { until, ..start };
                $change!(self, db => mailbox::open(db, &limits, now, &thing, start))
            }

            async fn renew(
                &self,
                thing: &ThingName,
                connection: u64,
                until: Timestamp,
            ) -> Result<bool, MailboxError> {
                let (thing, until) = (thing.clone(), self.shared_time(until));
                $change!(self, db => mailbox::renew(db, &thing, connection, until))
            }

            async fn close(
                &self,
                now: Timestamp,
                thing: &ThingName,
                connection: u64,
                keep: Duration,
            ) -> Result<(), MailboxError> {
                let (thing, now) = (thing.clone(), self.shared_time(now));
                $change!(self, db => mailbox::close(db, now, &thing, connection, keep))
            }

            async fn subscribe(
                &self,
                thing: &ThingName,
                connection: u64,
                subscription: Option<Qos>,
            ) -> Result<bool, MailboxError> {
                let thing = thing.clone();
                $change!(self, db => mailbox::subscribe(db, &thing, connection, subscription))
            }

            async fn push(
                &self,
                now: Timestamp,
                thing: &ThingName,
                message: Message,
            ) -> Result<bool, MailboxError> {
                let (limits, thing) = (self.mailbox_limits, thing.clone());
                let now = self.shared_time(now);
                let expires = self.shared_time(message.expires);
                let message = Message { expires, ..message };
                $change!(self, db => mailbox::push(db, &limits, now, &thing, &message))
            }

            async fn next(
                &self,
                now: Timestamp,
                thing: &ThingName,
                connection: u64,
            ) -> Result<Option<Queued>, MailboxError> {
                let look = thing.clone();
                let waits: Result<bool, MailboxError> =
                    $look!(self, db => mailbox::has_messages(db, &look));
                if !waits? {
                    return Ok(None);
                }
                let (thing, now) = (thing.clone(), self.shared_time(now));
                let queued: Result<Option<Queued>, MailboxError> =
                    $change!(self, db => mailbox::next(db, now, &thing, connection));
                let mut queued = queued?;
                if let Some(queued) = &mut queued {
                    queued.message.expires = self.own_time(queued.message.expires);
                }
                Ok(queued)
            }

            async fn settle(
                &self,
                thing: &ThingName,
                connection: u64,
                id: u64,
            ) -> Result<(), MailboxError> {
                let thing = thing.clone();
                $change!(self, db => mailbox::settle(db, &thing, connection, id))
            }

            async fn expire(&self, now: Timestamp) -> Result<usize, MailboxError> {
                let now = self.shared_time(now);
                $change!(self, db => mailbox::expire(db, now))
            }
        }
    };
}
pub(in crate::store) use mailbox_in_tables;

/// `AuditLog` by [`relational::audit`](super::audit).
macro_rules! audit_in_tables {
    ($store:ty, $change:ident, $look:ident) => {
        impl AuditSink for $store {
            async fn append(&self, record: Arc<Record>) -> Result<(), AuditError> {
                self.append_all(vec![record]).await
            }
        }

        impl AuditLog for $store {
            async fn append_all(&self, records: Vec<Arc<Record>>) -> Result<(), AuditError> {
                let lines: Vec<_> = records.iter().map(|record| record.to_json()).collect();
                $change!(self, db => audit::append(db, &lines))
            }

            async fn latest(&self, count: usize) -> Result<Vec<String>, AuditError> {
                $look!(self, db => audit::latest(db, count))
            }
        }
    };
}
pub(in crate::store) use audit_in_tables;
