//! AWS's security token service, as far as asking who one is: a form in, XML out.
//!
//! `aws sts get-caller-identity` is what people try first to see whether their keys work.

use crate::api::Naming;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::outcome::{self, Handler, Outcome, STS_NAMESPACE, escape_xml};
use crate::api::target::decode;

/// The one operation of sts.
pub(crate) struct Sts {
    pub(crate) naming: Naming,
}

impl Handler for Sts {
    fn handle<'a>(&'a self, call: &'a Call) -> outcome::Answer<'a> {
        Box::pin(std::future::ready(self.answer(call)))
    }
}

impl Sts {
    fn answer(&self, call: &Call) -> Result<Outcome, ApiError> {
        match action(&call.body).as_deref() {
            Some("GetCallerIdentity") => Ok(self.get_caller_identity(call)),
            _ => Err(ApiError::unknown_operation(
                "the only operation of sts here is GetCallerIdentity",
            )),
        }
    }

    /// Needs no permission, as at AWS: it tells callers nothing but what they know.
    fn get_caller_identity(&self, call: &Call) -> Outcome {
        call.note("sts:GetCallerIdentity", &[]);
        let user = &*call.caller.user;
        let arn = self.naming.user_arn(user);
        let body = format!(
            "<GetCallerIdentityResponse xmlns=\"{STS_NAMESPACE}\"><GetCallerIdentityResult>\
             <Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\
             </GetCallerIdentityResponse>\n",
            escape_xml(&arn),
            escape_xml(user),
            self.naming.account(),
            call.request_id,
        );
        Outcome::ok(body.into_bytes())
    }
}

/// The operation that a form asks for; `None` when it names none, or several.
fn action(form: &[u8]) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let mut actions = form.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == "Action").then(|| decode(value))
    });
    let action = actions.next()??;
    actions.next().is_none().then_some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_names_one_action() {
        for (form, expected) in [
            (
                "Action=GetCallerIdentity&Version=2011-06-15",
                Some("GetCallerIdentity"),
            ),
            (
                "Version=2011-06-15&Action=Get%43allerIdentity",
                Some("GetCallerIdentity"),
            ),
            ("Action=", Some("")),
            ("", None),
            ("Version=1", None),
            ("action=GetCallerIdentity", None),
            ("Action=A&Action=B", None),
        ] {
            assert_eq!(action(form.as_bytes()).as_deref(), expected, "{form}");
        }
        assert_eq!(action(b"Action=\xff"), None);
    }
}
