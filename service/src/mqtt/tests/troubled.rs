//! A registry and a mailbox in memory that make trouble when a test wants it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use super::*;
use crate::notify::{Mailbox, MailboxError, Message, Opened, Qos, Queued, SessionStart};
use crate::registry::{
    ByAge, ByKey, Changes, Device, Page, RegistryError, Thing, ThingPage, ThingQuery, ThingUpdate,
};

/// What happens to one operation.
pub(super) enum Trouble {
    /// It is carried out.
    None,
    /// It is not carried out, and the store is unavailable.
    Refused,
    /// It is carried out once this is over.
    Later(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Asked before each operation that can have trouble, by its name in the trait.
type Plan = Box<dyn FnMut(&'static str) -> Trouble + Send>;

/// What is in memory, with trouble by plan.
pub(super) struct Troubled<T> {
    pub(super) inner: T,
    plan: Mutex<Plan>,
}

impl<T> Troubled<T> {
    /// Without trouble yet.
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            plan: Mutex::new(Box::new(|_| Trouble::None)),
        }
    }

    /// Makes this trouble from now on.
    pub(super) fn plan(&self, plan: impl FnMut(&'static str) -> Trouble + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// Refuses this operation so many times.
    pub(super) fn refuse(&self, operation: &'static str, mut times: usize) {
        self.plan(move |name| {
            if name != operation || times == 0 {
                return Trouble::None;
            }
            times -= 1;
            Trouble::Refused
        });
    }

    async fn run<V, E>(
        &self,
        name: &'static str,
        unavailable: E,
        operation: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        let trouble = (self.plan.lock().unwrap())(name);
        match trouble {
            Trouble::None => operation.await,
            Trouble::Refused => Err(unavailable),
            Trouble::Later(moment) => {
                moment.await;
                operation.await
            }
        }
    }
}

macro_rules! troubled {
    ($error:ident: $($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        $(async fn $name(&self, $($argument: $kind),*) -> Result<$answer, $error> {
            let operation = self.inner.$name($($argument),*);
            self.run(stringify!($name), $error::Unavailable, operation).await
        })*
    };
}

impl Registry for Troubled<MemoryRegistry> {
    troubled! { RegistryError:
        create_thing(new: NewThing) -> Thing;
        thing(name: &ThingName) -> Thing;
        thing_exists(name: &ThingName) -> bool;
        list_things(query: ThingQuery) -> ThingPage;
        update_thing(name: &ThingName, update: ThingUpdate) -> ();
        delete_thing(name: &ThingName, expected_version: Option<u64>) -> ();
        add_certificate(new: Certificate) -> ();
        certificate(id: &CertificateId) -> Certificate;
        list_certificates(query: ByAge<CertificateId>) -> Page<Certificate>;
        set_certificate_status(now: Timestamp, id: &CertificateId, status: CertificateStatus) -> ();
        delete_certificate(id: &CertificateId, force: bool) -> ();
        attach_thing(thing: &ThingName, certificate: &CertificateId) -> ();
        detach_thing(thing: &ThingName, certificate: &CertificateId) -> ();
        thing_certificates(thing: &ThingName, query: ByKey<CertificateId>) -> Page<CertificateId>;
        certificate_things(certificate: &CertificateId, query: ByKey<ThingName>) -> Page<ThingName>;
        create_policy(new: Policy) -> ();
        policy(name: &PolicyName) -> Policy;
        list_policies(query: ByAge<PolicyName>) -> Page<Policy>;
        delete_policy(name: &PolicyName) -> ();
        attach_policy(policy: &PolicyName, certificate: &CertificateId) -> ();
        detach_policy(policy: &PolicyName, certificate: &CertificateId) -> ();
        certificate_policies(certificate: &CertificateId, query: ByKey<PolicyName>) -> Page<PolicyName>;
        policy_certificates(policy: &PolicyName, query: ByKey<CertificateId>) -> Page<CertificateId>;
        device(certificate: &CertificateId) -> Option<Device>;
    }

    fn changes(&self) -> Changes {
        self.inner.changes()
    }
}

impl Mailbox for Troubled<MemoryMailbox> {
    troubled! { MailboxError:
        open(now: Timestamp, thing: &ThingName, start: SessionStart) -> Opened;
        renew(thing: &ThingName, connection: u64, until: Timestamp) -> bool;
        close(now: Timestamp, thing: &ThingName, connection: u64, keep: Duration) -> ();
        subscribe(thing: &ThingName, connection: u64, subscription: Option<Qos>) -> bool;
        push(now: Timestamp, thing: &ThingName, message: Message) -> bool;
        next(now: Timestamp, thing: &ThingName, connection: u64) -> Option<Queued>;
        settle(thing: &ThingName, connection: u64, id: u64) -> ();
        expire(now: Timestamp) -> usize;
    }
}
