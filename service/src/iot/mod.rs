//! AWS's registry API: REST with JSON bodies (control-plane specification, section 14.4).
//!
//! Paths and members are those of the `iot` service, as far as things, certificates and policies go:
//! what `aws iot …` prints and takes is the same. Thing groups, thing types of their own, billing
//! groups and certificate transfer do not exist here; asking for them is refused, never ignored.

mod attachments;
mod certificates;
mod constraints;
mod endpoint;
mod error;
mod paging;
mod policies;
mod read;
mod things;

use std::sync::Arc;

use serde::Serialize;

use crate::access::policy::Conditions;
use crate::api::Naming;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::outcome::{self, Handler, Outcome};
use crate::certificates::DeviceIssuer;
use crate::clock::Clock;
use crate::registry::{CertificateId, PolicyName, Registry};
use crate::tunnels::ThingName;

pub(crate) use endpoint::DataEndpoint;

/// The registry's operations.
pub(crate) struct Iot<R> {
    pub(crate) registry: Arc<R>,
    pub(crate) issuer: DeviceIssuer,
    pub(crate) naming: Naming,
    pub(crate) clock: Clock,
    /// Where devices connect; `None` when there is no MQTT listener.
    pub(crate) endpoint: Option<DataEndpoint>,
}

type Answer = Result<Outcome, ApiError>;

impl<R: Registry> Handler for Iot<R> {
    fn handle<'a>(&'a self, call: &'a Call) -> outcome::Answer<'a> {
        Box::pin(self.answer(call))
    }
}

impl<R: Registry> Iot<R> {
    async fn answer(&self, call: &Call) -> Answer {
        match (call.method.as_str(), &call.target.route()[..]) {
            ("GET", ["things"]) => self.list_things(call).await,
            ("POST", ["things", name]) => self.create_thing(call, name).await,
            ("GET", ["things", name]) => self.describe_thing(call, name).await,
            ("PATCH", ["things", name]) => self.update_thing(call, name).await,
            ("DELETE", ["things", name]) => self.delete_thing(call, name).await,
            ("PUT", ["things", name, "principals"]) => self.attach_thing(call, name).await,
            ("DELETE", ["things", name, "principals"]) => self.detach_thing(call, name).await,
            ("GET", ["things", name, "principals"]) => self.list_thing_principals(call, name).await,
            ("GET", ["principals", "things"]) => self.list_principal_things(call).await,

            ("POST", ["keys-and-certificate"]) => self.create_keys(call).await,
            ("POST", ["certificates"]) => self.sign_request(call).await,
            ("POST", ["certificate", "register-no-ca"]) => self.register_certificate(call).await,
            ("GET", ["certificates"]) => self.list_certificates(call).await,
            ("GET", ["certificates", id]) => self.describe_certificate(call, id).await,
            ("PUT", ["certificates", id]) => self.update_certificate(call, id).await,
            ("DELETE", ["certificates", id]) => self.delete_certificate(call, id).await,

            ("GET", ["policies"]) => self.list_policies(call).await,
            ("POST", ["policies", name]) => self.create_policy(call, name).await,
            ("GET", ["policies", name]) => self.get_policy(call, name).await,
            ("DELETE", ["policies", name]) => self.delete_policy(call, name).await,
            ("PUT", ["target-policies", name]) => self.attach_policy(call, name).await,
            ("POST", ["target-policies", name]) => self.detach_policy(call, name).await,
            ("POST", ["attached-policies", target]) => self.list_attached(call, target).await,
            ("POST", ["policy-targets", name]) => self.list_targets(call, name).await,

            ("GET", ["endpoint"]) => self.describe_endpoint(call),
            _ => Err(ApiError::unknown_operation(
                "method and path are none of the registry's operations that this service has",
            )),
        }
    }

    fn thing_arn(&self, name: &ThingName) -> String {
        self.naming.arn("thing", name.as_str())
    }

    fn certificate_arn(&self, id: &CertificateId) -> String {
        self.naming.arn("cert", &id.to_string())
    }

    fn policy_arn(&self, name: &PolicyName) -> String {
        self.naming.arn("policy", name.as_str())
    }

    /// The certificate of a principal's or target's ARN.
    fn certificate_in(&self, path: &str, arn: &str) -> Result<CertificateId, ApiError> {
        let id = self.naming.name_in("cert", arn);
        id.and_then(CertificateId::from_hex).ok_or_else(|| {
            let like = self.naming.arn("cert", "<certificate id>");
            ApiError::constraint(path, &format!("Member must be a certificate's ARN: {like}"))
        })
    }
}

/// Nothing more is known about registry calls than about all calls.
fn authorize<const N: usize>(
    call: &Call,
    action: &str,
    resources: [String; N],
) -> Result<(), ApiError> {
    call.authorize(action, &resources, &Conditions::new())
}

/// For operations that make something that has no name yet, or show everything.
fn everything() -> [String; 1] {
    ["*".to_owned()]
}

/// The answer of operations that have nothing to say.
fn empty() -> Answer {
    #[derive(Serialize)]
    struct Empty {}
    Ok(Outcome::json(&Empty {}))
}

#[cfg(test)]
mod tests;
