//! The registry's operations, as far as commands need them (control-plane specification, section 14.4).

use hyper::Method;
use hyper::header::HeaderName;
use serde_json::{Value, json};

use super::trouble::Trouble;
use crate::aws::{Api, Call, CallFault, Client, encode};

/// Calls the registry.
pub(super) struct Registry<'a>(pub(super) &'a Client);

type Answer = Result<Value, CallFault>;

impl Registry<'_> {
    /// Repeatable: the same thing again is no conflict.
    pub(super) async fn create_thing(&self, name: &str, attributes: &[(String, String)]) -> Answer {
        let mut input = json!({});
        if !attributes.is_empty() {
            let attributes = attributes
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)));
            let attributes: serde_json::Map<_, _> = attributes.collect();
            input["attributePayload"] = json!({ "attributes": attributes });
        }
        self.call(Method::POST, "CreateThing", thing(name))
            .body(&input)
            .send()
            .await
    }

    pub(super) async fn describe_thing(&self, name: &str) -> Answer {
        self.call(Method::GET, "DescribeThing", thing(name))
            .send()
            .await
    }

    pub(super) async fn delete_thing(&self, name: &str) -> Answer {
        self.call(Method::DELETE, "DeleteThing", thing(name))
            .send()
            .await
    }

    pub(super) async fn things(&self) -> Result<Vec<Value>, Trouble> {
        let call = || self.call(Method::GET, "ListThings", "/things".to_owned());
        pages("ListThings", "things", call).await
    }

    /// The ARNs of what a thing may be.
    pub(super) async fn principals(&self, name: &str) -> Result<Vec<String>, Trouble> {
        let path = format!("{}/principals", thing(name));
        let call = || self.call(Method::GET, "ListThingPrincipals", path.clone());
        Ok(texts(
            pages("ListThingPrincipals", "principals", call).await?,
        ))
    }

    /// The names of the things that a certificate is attached to.
    pub(super) async fn principal_things(&self, arn: &str) -> Result<Vec<String>, Trouble> {
        let path = "/principals/things".to_owned();
        let call = || {
            let call = self.call(Method::GET, "ListPrincipalThings", path.clone());
            call.header(PRINCIPAL, arn)
        };
        Ok(texts(pages("ListPrincipalThings", "things", call).await?))
    }

    pub(super) async fn attach(&self, name: &str, arn: &str) -> Answer {
        let path = format!("{}/principals", thing(name));
        let call = self.call(Method::PUT, "AttachThingPrincipal", path);
        call.header(PRINCIPAL, arn).send().await
    }

    pub(super) async fn detach(&self, name: &str, arn: &str) -> Answer {
        let path = format!("{}/principals", thing(name));
        let call = self.call(Method::DELETE, "DetachThingPrincipal", path);
        call.header(PRINCIPAL, arn).send().await
    }

    /// Has a certificate made that is active at once.
    pub(super) async fn sign_request(&self, request: &str) -> Answer {
        let path = "/certificates".to_owned();
        let mut call = self.call(Method::POST, "CreateCertificateFromCsr", path);
        // A second one would be left over.
        call.0.is_repeatable = false;
        let input = json!({ "certificateSigningRequest": request });
        call.query("setAsActive=true").body(&input).send().await
    }

    pub(super) async fn describe_certificate(&self, id: &str) -> Answer {
        self.call(Method::GET, "DescribeCertificate", certificate(id))
            .send()
            .await
    }

    pub(super) async fn deactivate(&self, id: &str) -> Answer {
        let call = self.call(Method::PUT, "UpdateCertificate", certificate(id));
        call.query("newStatus=INACTIVE").send().await
    }

    pub(super) async fn delete_certificate(&self, id: &str, force: bool) -> Answer {
        let call = self.call(Method::DELETE, "DeleteCertificate", certificate(id));
        call.query(if force { "forceDelete=true" } else { "" })
            .send()
            .await
    }

    pub(super) async fn attach_policy(&self, policy: &str, target: &str) -> Answer {
        let path = format!("/target-policies/{}", encode(policy));
        let call = self.call(Method::PUT, "AttachPolicy", path);
        call.body(&json!({ "target": target })).send().await
    }

    pub(super) async fn detach_policy(&self, policy: &str, target: &str) -> Answer {
        let path = format!("/target-policies/{}", encode(policy));
        let call = self.call(Method::POST, "DetachPolicy", path);
        call.body(&json!({ "target": target })).send().await
    }

    /// The names of the policies that a certificate has of its own; AWS allows ten.
    pub(super) async fn attached_policies(&self, target: &str) -> Result<Vec<String>, Trouble> {
        let path = format!("/attached-policies/{}", encode(target));
        let output = self
            .call(Method::POST, "ListAttachedPolicies", path)
            .send()
            .await?;
        let policies = output["policies"].as_array().into_iter().flatten();
        let names = policies.filter_map(|policy| policy["policyName"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// Where devices connect: a host, or host and port.
    pub(super) async fn data_endpoint(&self) -> Result<String, Trouble> {
        let call = self.call(Method::GET, "DescribeEndpoint", "/endpoint".to_owned());
        let output = call.query("endpointType=iot%3AData-ATS").send().await?;
        match output["endpointAddress"].as_str() {
            Some(address) => Ok(address.to_owned()),
            None => Err(Trouble::answer("DescribeEndpoint", "endpointAddress")),
        }
    }

    fn call(&self, method: Method, operation: &'static str, path: String) -> Request<'_> {
        let call = Call {
            api: Api::Iot,
            operation,
            method,
            path,
            query: String::new(),
            headers: Vec::new(),
            body: bytes::Bytes::new(),
            is_repeatable: true,
        };
        Request(call, self.0)
    }
}

/// The id in the ARN of a certificate; other principals have none.
pub(super) fn certificate_id(arn: &str) -> Option<&str> {
    let (_, resource) = arn.rsplit_once(':')?;
    resource.strip_prefix("cert/")
}

struct Request<'a>(Call, &'a Client);

impl Request<'_> {
    fn query(mut self, query: &str) -> Self {
        self.0.query = query.to_owned();
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.0.headers.push((name, value.to_owned()));
        self
    }

    fn body(mut self, body: &Value) -> Self {
        self.0.body = body.to_string().into();
        let kind = (hyper::header::CONTENT_TYPE, "application/json".to_owned());
        self.0.headers.push(kind);
        self
    }

    async fn send(self) -> Answer {
        self.1.call(&self.0).await
    }
}

async fn pages<'a>(
    operation: &'static str,
    member: &str,
    call: impl Fn() -> Request<'a>,
) -> Result<Vec<Value>, Trouble> {
    let mut items = Vec::new();
    let mut query = "maxResults=100".to_owned();
    for _ in 0..PAGES_MAX {
        let mut page = call().query(&query).send().await?;
        match page[member].take() {
            Value::Array(more) => items.extend(more),
            _ => return Err(Trouble::answer(operation, member)),
        }
        match page["nextToken"].as_str() {
            Some(token) => query = format!("maxResults=100&nextToken={}", encode(token)),
            None => return Ok(items),
        }
    }
    Err(Trouble::failure(format_args!(
        "{operation}: more than {PAGES_MAX} pages"
    )))
}

fn texts(values: Vec<Value>) -> Vec<String> {
    values
        .iter()
        .filter_map(|value| Some(value.as_str()?.to_owned()))
        .collect()
}

fn thing(name: &str) -> String {
    format!("/things/{}", encode(name))
}

fn certificate(id: &str) -> String {
    format!("/certificates/{}", encode(id))
}

const PRINCIPAL: HeaderName = HeaderName::from_static("x-amzn-principal");

/// A million things; a service that goes on is playing games.
const PAGES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_have_an_id() {
        for (arn, id) in [
            ("arn:aws:iot:eu-west-1:123456789012:cert/ab12", Some("ab12")),
            ("arn:aws:iot:eu-west-1:123456789012:policy/x", None),
            ("eu-west-1:0a-1b", None),
            ("", None),
        ] {
            assert_eq!(certificate_id(arn), id);
        }
    }

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(thing("a:b_c-d"), "/things/a%3Ab_c-d");
        assert_eq!(thing("../x?y"), "/things/..%2Fx%3Fy");
    }
}
