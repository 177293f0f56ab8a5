//! Members of a request outside its body: labels of the path, the query, headers.

use std::ops::RangeInclusive;

use crate::api::call::Call;
use crate::api::constraints::{Text, check_value};
use crate::api::error::ApiError;
use crate::registry::{CertificateId, PolicyName};
use crate::tunnels::ThingName;

use super::constraints::{CERTIFICATE_ID, POLICY_NAME, RESOURCE_NAME, THING_NAME};

pub(super) fn thing_name(label: &str) -> Result<ThingName, ApiError> {
    THING_NAME.check("thingName", label)?;
    ThingName::new(label).ok_or_else(|| refused("thingName", "a thing's name"))
}

pub(super) fn policy_name(label: &str) -> Result<PolicyName, ApiError> {
    POLICY_NAME.check("policyName", label)?;
    PolicyName::new(label).ok_or_else(|| refused("policyName", "a policy's name"))
}

pub(super) fn certificate_id(label: &str) -> Result<CertificateId, ApiError> {
    CERTIFICATE_ID.check("certificateId", label)?;
    CertificateId::from_hex(label).ok_or_else(|| refused("certificateId", "64 hexadecimal digits"))
}

/// The ARN in the header `x-amzn-principal`.
pub(super) fn principal(call: &Call) -> Result<&str, ApiError> {
    let arn = call.header("x-amzn-principal");
    let arn = arn.ok_or_else(|| ApiError::constraint("principal", "Member must not be null"))?;
    RESOURCE_NAME.check("principal", arn)?;
    Ok(arn)
}

pub(super) fn text<'a>(
    call: &'a Call,
    name: &str,
    rule: &Text,
) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = call.target.parameter(name) else {
        return Ok(None);
    };
    rule.check(name, value)?;
    Ok(Some(value))
}

/// `true` or `false`; absent is `false`.
pub(super) fn flag(call: &Call, name: &str) -> Result<bool, ApiError> {
    match call.target.parameter(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(refused(name, "true or false")),
    }
}

pub(super) fn integer(
    call: &Call,
    name: &str,
    allowed: &RangeInclusive<i64>,
) -> Result<Option<i64>, ApiError> {
    let Some(value) = call.target.parameter(name) else {
        return Ok(None);
    };
    let number = value.parse().map_err(|_| refused(name, "an integer"))?;
    check_value(name, number, allowed)?;
    Ok(Some(number))
}

pub(super) fn refused(path: &str, wanted: &str) -> ApiError {
    ApiError::constraint(path, &format!("Member must be {wanted}"))
}
