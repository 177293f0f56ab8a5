//! Policies. A policy has one version for ever, number 1: another text is another policy.

use serde::Serialize;

use super::constraints::{POLICY_DOCUMENT, RESOURCE_NAME};
use super::error::{invalid, malformed_policy};
use super::paging::{self, BY_MARKER};
use super::{Answer, Iot, authorize, empty, everything, read};
use crate::access::policy;
use crate::api::call::Call;
use crate::api::constraints::TAG_LIST;
use crate::api::error::ApiError;
use crate::api::input::Input;
use crate::api::outcome::Outcome;
use crate::clock::Timestamp;
use crate::registry::{POLICY_DOCUMENT_SIZE_MAX, Policy, PolicyName, Registry};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateOutput<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    policy_document: &'a str,
    policy_version_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GetOutput<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    policy_document: &'a str,
    default_version_id: String,
    creation_date: Timestamp,
    last_modified_date: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListOutput<'a> {
    policies: Vec<Summary<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    policy_name: &'a str,
    policy_arn: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetsOutput {
    targets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
}

impl<R: Registry> Iot<R> {
    pub(super) async fn create_policy(&self, call: &Call, name: &str) -> Answer {
        let name = read::policy_name(name)?;
        let body = call.json()?;
        let input = Input::new(&body);
        let document = input.required_text("policyDocument", &POLICY_DOCUMENT)?;
        if input.list("tags", &TAG_LIST)?.is_some() {
            return Err(invalid("policies have no tags here"));
        }
        check_document(document)?;
        authorize(call, "iot:CreatePolicy", [self.policy_arn(&name)])?;
        let policy = Policy {
            name,
            document: document.into(),
            version: 1,
            created: self.clock.now().wall,
        };
        self.registry.create_policy(policy.clone()).await?;
        Ok(Outcome::json(&CreateOutput {
            summary: self.policy_summary(&policy.name),
            policy_document: &policy.document,
            policy_version_id: policy.version.to_string(),
        }))
    }

    pub(super) async fn get_policy(&self, call: &Call, name: &str) -> Answer {
        let name = read::policy_name(name)?;
        authorize(call, "iot:GetPolicy", [self.policy_arn(&name)])?;
        let policy = self.registry.policy(&name).await?;
        Ok(Outcome::json(&GetOutput {
            summary: self.policy_summary(&policy.name),
            policy_document: &policy.document,
            default_version_id: policy.version.to_string(),
            creation_date: policy.created,
            last_modified_date: policy.created,
        }))
    }

    pub(super) async fn list_policies(&self, call: &Call) -> Answer {
        let query = BY_MARKER.by_age(call)?;
        authorize(call, "iot:ListPolicies", everything())?;
        let page = self.registry.list_policies(query).await?;
        let last = page.items.last();
        let last = last.map(|last| (last.created, last.name.clone()));
        let policies = page.items.iter();
        Ok(Outcome::json(&ListOutput {
            policies: policies.map(|one| self.policy_summary(&one.name)).collect(),
            next_marker: paging::next(page.more, last),
        }))
    }

    pub(super) async fn delete_policy(&self, call: &Call, name: &str) -> Answer {
        let name = read::policy_name(name)?;
        authorize(call, "iot:DeletePolicy", [self.policy_arn(&name)])?;
        self.registry.delete_policy(&name).await?;
        empty()
    }

    pub(super) async fn attach_policy(&self, call: &Call, name: &str) -> Answer {
        let name = read::policy_name(name)?;
        let body = call.json()?;
        let target = Input::new(&body).required_text("target", &RESOURCE_NAME)?;
        let id = self.certificate_in("target", target)?;
        let resources = [self.policy_arn(&name), self.certificate_arn(&id)];
        authorize(call, "iot:AttachPolicy", resources)?;
        self.registry.attach_policy(&name, &id).await?;
        empty()
    }

    pub(super) async fn detach_policy(&self, call: &Call, name: &str) -> Answer {
        let name = read::policy_name(name)?;
        let body = call.json()?;
        let target = Input::new(&body).required_text("target", &RESOURCE_NAME)?;
        let id = self.certificate_in("target", target)?;
        let resources = [self.policy_arn(&name), self.certificate_arn(&id)];
        authorize(call, "iot:DetachPolicy", resources)?;
        self.registry.detach_policy(&name, &id).await?;
        empty()
    }

    /// `recursive` asks for what groups pass on; there are no groups, so it changes nothing.
    pub(super) async fn list_attached(&self, call: &Call, target: &str) -> Answer {
        let id = self.certificate_in("target", target)?;
        let query = BY_MARKER.by_key(call)?;
        read::flag(call, "recursive")?;
        authorize(
            call,
            "iot:ListAttachedPolicies",
            [self.certificate_arn(&id)],
        )?;
        let page = self.registry.certificate_policies(&id, query).await?;
        let policies = page.items.iter();
        Ok(Outcome::json(&ListOutput {
            policies: policies.map(|name| self.policy_summary(name)).collect(),
            next_marker: paging::next(page.more, page.items.last().cloned()),
        }))
    }

    pub(super) async fn list_targets(&self, call: &Call, name: &str) -> Answer {
        let name = read::policy_name(name)?;
        let query = BY_MARKER.by_key(call)?;
        authorize(call, "iot:ListTargetsForPolicy", [self.policy_arn(&name)])?;
        let page = self.registry.policy_certificates(&name, query).await?;
        let targets = page.items.iter();
        Ok(Outcome::json(&TargetsOutput {
            targets: targets.map(|id| self.certificate_arn(id)).collect(),
            next_marker: paging::next(page.more, page.items.last().copied()),
        }))
    }

    fn policy_summary<'a>(&self, name: &'a PolicyName) -> Summary<'a> {
        Summary {
            policy_name: name.as_str(),
            policy_arn: self.policy_arn(name),
        }
    }
}

/// A document that would not be understood when a device connects is refused now.
fn check_document(document: &str) -> Result<(), ApiError> {
    policy::Policy::parse(document)
        .map(|_| ())
        .map_err(|error| malformed_policy(error.to_string()))
}

const _: () = assert!(POLICY_DOCUMENT_SIZE_MAX == policy::DOCUMENT_SIZE_MAX);
