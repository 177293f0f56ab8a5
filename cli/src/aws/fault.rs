//! Why a call failed, and what a person can do about it.

use std::fmt;

use adit_proto::escape::Escaped;

use crate::exit::ExitCode;

/// A call that did not succeed.
#[derive(Clone, Debug)]
pub enum CallFault {
    /// The service answered that it will not.
    Refused(Box<Refusal>),
    /// No answer came, or none of an API.
    Failed(Box<Failure>),
}

/// What the service answered, of either protocol.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// The operation, like `OpenTunnel`.
    pub(crate) operation: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The error's name without a namespace; `HTTP 502` where there was none.
    pub(crate) code: String,
    /// The service's words, escaped; may be empty.
    pub(crate) message: String,
    /// For its operator; may be empty.
    pub(crate) request_id: String,
    /// The public half of the key that was used.
    pub(crate) access_key_id: Option<String>,
    /// The region that was signed for.
    pub(crate) region: String,
    /// Seconds by which this machine's clock is ahead of the service's, where that said its time.
    pub(crate) clock_ahead: Option<i64>,
    /// The body was JSON, as every answer of an API is.
    pub(crate) is_api: bool,
}

/// How far a call came, and what stopped it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(crate) operation: &'static str,
    /// The URL of the API.
    pub(crate) endpoint: String,
    pub(crate) reason: String,
    pub(crate) hint: String,
    /// The service may have done what was asked.
    pub(crate) was_sent: bool,
    /// The same again may succeed.
    pub(crate) is_passing: bool,
}

impl CallFault {
    /// Whether the refusal has this name.
    pub(crate) fn is(&self, code: &str) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code == code,
            Self::Failed(_) => false,
        }
    }

    /// What was asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.is("ResourceNotFoundException")
    }

    /// Whether the same call may succeed if made again soon. `is_repeatable`: doing it twice does no harm.
    pub(super) fn is_retryable(&self, is_repeatable: bool) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Failed(failure) => failure.is_passing && (is_repeatable || !failure.was_sent),
        }
    }

    /// What a person can do; may be empty.
    pub fn hint(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::Failed(failure) => failure.hint.clone(),
        }
    }

    /// How the process ends because of it.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Refused(refusal) if !refusal.is_retryable() => ExitCode::Refused,
            Self::Refused(_) | Self::Failed(_) => ExitCode::Unreachable,
        }
    }
}

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(failure) => {
                let Failure {
                    operation,
                    endpoint,
                    reason,
                    ..
                } = &**failure;
                write!(f, "{operation}: {endpoint}: {reason}")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, Escaped(&self.code))?;
        if !self.message.is_empty() {
            write!(f, ": {}", Escaped(&self.message))?;
        }
        if !self.request_id.is_empty() {
            write!(f, " (request {})", Escaped(&self.request_id))?;
        }
        Ok(())
    }
}

impl Refusal {
    fn is_retryable(&self) -> bool {
        let throttled = [
            "ThrottlingException",
            "Throttling",
            "TooManyRequestsException",
            "RequestLimitExceeded",
        ];
        self.status >= 500 || self.status == 429 || throttled.contains(&self.code.as_str())
    }

    fn hint(&self) -> String {
        let key = match &self.access_key_id {
            Some(id) => format!("access key {}", Escaped(id)),
            None => "caller".to_owned(),
        };
        match self.code.as_str() {
            "AccessDeniedException" | "AccessDenied" | "UnauthorizedException" => format!(
                "the {key} needs a policy that allows iot:{}",
                self.operation
            ),
            "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestTimeTooSkewed"
            | "RequestExpired" => self.signature_hint(&key),
            "UnrecognizedClientException" | "InvalidClientTokenId" => {
                format!("the service does not know the {key}: is it that of another service or region?")
            }
            "ExpiredTokenException" | "ExpiredToken" => {
                "get new credentials, for example with `aws sso login`, and export them again".to_owned()
            }
            "MissingAuthenticationTokenException" | "MissingAuthenticationToken" => {
                "the service wants signed requests: leave --no-sign-request out".to_owned()
            }
            "LimitExceededException" => {
                "`adit tunnel list --open` shows what is open; close what is not needed".to_owned()
            }
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" => {
                "wait a little; the service takes fewer calls a second".to_owned()
            }
            "ResourceNotFoundException" => self.missing_hint().to_owned(),
            "DeleteConflictException" => {
                "something is still attached to it; --force takes that off first".to_owned()
            }
            _ if !self.is_api => {
                "no API answers like this: is --endpoint the URL of the API, and not that for tunnels?"
                    .to_owned()
            }
            _ if self.status >= 500 => {
                "the service has a trouble of its own; its log has the request's id".to_owned()
            }
            _ => String::new(),
        }
    }

    fn signature_hint(&self, key: &str) -> String {
        match self.clock_ahead {
            Some(ahead) if ahead.abs() > SKEW_WORTH_SAYING => format!(
                "this machine's clock is {} minutes {} that of the service: set it, then try again",
                ahead.abs() / 60,
                if ahead > 0 { "ahead of" } else { "behind" },
            ),
            // Of AWS: "Credential should be scoped to a valid region."
            _ if self.message.contains("scoped to a valid region") => format!(
                "the service is of another region than {}: give its own with --region",
                Escaped(&self.region)
            ),
            _ => format!(
                "the secret that is used does not belong to the {key}, or the request was changed on its way"
            ),
        }
    }

    fn missing_hint(&self) -> &'static str {
        match self.operation {
            "OpenTunnel" | "DescribeThing" | "DeleteThing" | "ListThingPrincipals" => {
                "`adit thing list` shows the things there are, `adit thing create` makes one"
            }
            "AttachPolicy" => "`aws iot list-policies` shows the policies there are",
            "DescribeCertificate" | "UpdateCertificate" | "DeleteCertificate" => "",
            _ => {
                "`adit tunnel list` shows the tunnels there are; a closed one is forgotten after hours"
            }
        }
    }
}

/// Seconds. Services allow five to fifteen minutes.
const SKEW_WORTH_SAYING: i64 = 240;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(operation: &'static str, code: &str, status: u16) -> CallFault {
        CallFault::Refused(Box::new(Refusal {
            operation,
            status,
            code: code.to_owned(),
            message: "no\u{1b}[2J".to_owned(),
            request_id: "r-1".to_owned(),
            access_key_id: Some("AK1".to_owned()),
            region: "eu-west-1".to_owned(),
            clock_ahead: None,
            is_api: true,
        }))
    }

    #[test]
    fn every_known_refusal_says_what_next() {
        for (operation, code, hint) in [
            (
                "OpenTunnel",
                "AccessDeniedException",
                "AK1 needs a policy that allows iot:OpenTunnel",
            ),
            ("CreateThing", "UnauthorizedException", "iot:CreateThing"),
            ("OpenTunnel", "InvalidSignatureException", "secret"),
            ("OpenTunnel", "UnrecognizedClientException", "AK1"),
            ("OpenTunnel", "ExpiredTokenException", "new credentials"),
            (
                "OpenTunnel",
                "MissingAuthenticationTokenException",
                "--no-sign-request",
            ),
            ("OpenTunnel", "LimitExceededException", "adit tunnel list"),
            ("OpenTunnel", "ResourceNotFoundException", "adit thing list"),
            (
                "DescribeTunnel",
                "ResourceNotFoundException",
                "adit tunnel list",
            ),
            ("DeleteCertificate", "DeleteConflictException", "--force"),
        ] {
            let fault = refusal(operation, code, 400);
            assert!(fault.hint().contains(hint), "{code}: {}", fault.hint());
            assert_eq!(fault.code(), ExitCode::Refused);
        }
        let text = refusal("OpenTunnel", "X", 400).to_string();
        assert_eq!(text, "OpenTunnel: X: no\\u{1b}[2J (request r-1)");
    }

    #[test]
    fn a_wrong_clock_is_told_from_a_wrong_secret() {
        for (ahead, words) in [
            (Some(3_600), "60 minutes ahead of"),
            (Some(-600), "10 minutes behind"),
            (Some(30), "secret"),
            (None, "secret"),
        ] {
            let refusal = Refusal {
                code: "InvalidSignatureException".to_owned(),
                clock_ahead: ahead,
                is_api: true,
                ..Refusal::default()
            };
            assert!(refusal.hint().contains(words), "{}", refusal.hint());
        }
    }

    #[test]
    fn a_wrong_region_is_told_from_a_wrong_secret() {
        let refusal = Refusal {
            code: "InvalidSignatureException".to_owned(),
            message: "Credential should be scoped to a valid region.".to_owned(),
            region: "eu-west-1".to_owned(),
            is_api: true,
            ..Refusal::default()
        };
        let hint = refusal.hint();
        assert!(
            hint.contains("than eu-west-1") && hint.contains("--region"),
            "{hint}"
        );
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (code, status, expected) in [
            ("ThrottlingException", 400, true),
            ("InternalFailure", 500, true),
            ("ServiceUnavailableException", 503, true),
            ("X", 429, true),
            ("LimitExceededException", 400, false),
            ("ValidationException", 400, false),
            ("AccessDeniedException", 403, false),
        ] {
            assert_eq!(
                refusal("X", code, status).is_retryable(false),
                expected,
                "{code}"
            );
        }
        let failed = |was_sent, is_passing| {
            CallFault::Failed(Box::new(Failure {
                operation: "OpenTunnel",
                endpoint: String::new(),
                reason: String::new(),
                hint: String::new(),
                was_sent,
                is_passing,
            }))
        };
        // An answer that was lost: only what may be done twice is asked for again.
        assert!(!failed(true, true).is_retryable(false));
        assert!(failed(true, true).is_retryable(true));
        assert!(failed(false, true).is_retryable(false));
        assert!(!failed(false, false).is_retryable(true));
    }
}
