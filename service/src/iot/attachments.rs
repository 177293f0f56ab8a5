//! Which certificate belongs to which thing.

use serde::Serialize;

use super::error::invalid;
use super::paging::{self, BY_TOKEN};
use super::{Answer, Iot, authorize, empty, read};
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::outcome::Outcome;
use crate::registry::{CertificateId, Registry};
use crate::tunnels::ThingName;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PrincipalsOutput {
    principals: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingsOutput<'a> {
    things: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl<R: Registry> Iot<R> {
    pub(super) async fn attach_thing(&self, call: &Call, name: &str) -> Answer {
        let (thing, id) = self.pair(call, name)?;
        match call.target.parameter("thingPrincipalType") {
            None | Some("NON_EXCLUSIVE_THING") => {}
            Some("EXCLUSIVE_THING") => {
                return Err(invalid("certificates are never exclusive to a thing here"));
            }
            Some(_) => {
                let wanted = "EXCLUSIVE_THING or NON_EXCLUSIVE_THING";
                return Err(read::refused("thingPrincipalType", wanted));
            }
        }
        let resources = [self.thing_arn(&thing), self.certificate_arn(&id)];
        authorize(call, "iot:AttachThingPrincipal", resources)?;
        self.registry.attach_thing(&thing, &id).await?;
        empty()
    }

    pub(super) async fn detach_thing(&self, call: &Call, name: &str) -> Answer {
        let (thing, id) = self.pair(call, name)?;
        let resources = [self.thing_arn(&thing), self.certificate_arn(&id)];
        authorize(call, "iot:DetachThingPrincipal", resources)?;
        self.registry.detach_thing(&thing, &id).await?;
        empty()
    }

    pub(super) async fn list_thing_principals(&self, call: &Call, name: &str) -> Answer {
        let thing = read::thing_name(name)?;
        let query = BY_TOKEN.by_key(call)?;
        authorize(call, "iot:ListThingPrincipals", [self.thing_arn(&thing)])?;
        let page = self.registry.thing_certificates(&thing, query).await?;
        let ids = page.items.iter();
        Ok(Outcome::json(&PrincipalsOutput {
            principals: ids.map(|id| self.certificate_arn(id)).collect(),
            next_token: paging::next(page.more, page.items.last().copied()),
        }))
    }

    pub(super) async fn list_principal_things(&self, call: &Call) -> Answer {
        let id = self.certificate_in("principal", read::principal(call)?)?;
        let query = BY_TOKEN.by_key(call)?;
        authorize(call, "iot:ListPrincipalThings", [self.certificate_arn(&id)])?;
        let page = self.registry.certificate_things(&id, query).await?;
        Ok(Outcome::json(&ThingsOutput {
            things: page.items.iter().map(ThingName::as_str).collect(),
            next_token: paging::next(page.more, page.items.last().cloned()),
        }))
    }

    fn pair(&self, call: &Call, name: &str) -> Result<(ThingName, CertificateId), ApiError> {
        let thing = read::thing_name(name)?;
        let id = self.certificate_in("principal", read::principal(call)?)?;
        Ok((thing, id))
    }
}
