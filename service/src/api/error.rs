//! Refusals, as AWS's services word them (control-plane specification, sections 4 and 14.4).

use axum::http::StatusCode;

use crate::access::sigv4::SignatureError;
use crate::control::ControlError;
use crate::tunnels::TunnelError;

/// A refusal as a client sees it. Code and status are those of AWS JSON 1.1; the other protocols
/// translate them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// Like `ResourceNotFoundException`.
    pub(crate) code: &'static str,
    /// Never repeats what the client sent, but for names of users, actions and resources.
    pub(crate) message: String,
}

impl ApiError {
    /// Any refusal. [`for_rest`](Self::for_rest) keeps codes that it does not know as they are.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// A member breaks a constraint. The text has the form that AWS users know; it never repeats the
    /// value.
    pub(crate) fn constraint(path: &str, constraint: &str) -> Self {
        Self::validation(format!(
            "1 validation error detected: Value at '{path}' failed to satisfy constraint: {constraint}"
        ))
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            message,
        )
    }

    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    pub(crate) fn unknown_operation(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "UnknownOperationException",
            message,
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UnknownOperationException",
            "every operation is a POST",
        )
    }

    pub(crate) fn too_large(max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            format!("the request's body is larger than {max} bytes"),
        )
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeoutException",
            "the request's body did not arrive in time",
        )
    }

    /// The same refusal in REST: status and code.
    pub(crate) fn for_rest(&self) -> (StatusCode, &'static str) {
        match self.code {
            "ResourceNotFoundException" => (StatusCode::NOT_FOUND, self.code),
            "ValidationException" | "SerializationException" => {
                (StatusCode::BAD_REQUEST, "InvalidRequestException")
            }
            "LimitExceededException" => (StatusCode::GONE, self.code),
            "UnknownOperationException" => (StatusCode::NOT_FOUND, self.code),
            "InternalFailure" => (self.status, "InternalFailureException"),
            _ => (self.status, self.code),
        }
    }

    /// The code of the same refusal in the query protocol.
    pub(crate) fn for_query(&self) -> &'static str {
        match self.code {
            "UnrecognizedClientException" => "InvalidClientTokenId",
            "InvalidSignatureException" => "SignatureDoesNotMatch",
            "UnknownOperationException" => "InvalidAction",
            other => other.strip_suffix("Exception").unwrap_or(other),
        }
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    pub(crate) fn throttled() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "ThrottlingException",
            "too many calls in a second with this access key",
        )
    }

    /// The log has the reason: whoever makes this error writes it there.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalFailure",
            "internal failure; the log of the service has the reason",
        )
    }
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let code = match error {
            SignatureError::Missing => "MissingAuthenticationTokenException",
            SignatureError::Malformed(_) | SignatureError::Date => "IncompleteSignatureException",
            SignatureError::UnknownKey | SignatureError::SessionToken => {
                "UnrecognizedClientException"
            }
            SignatureError::NotSigned(_)
            | SignatureError::HeaderMissing
            | SignatureError::BodyHash
            | SignatureError::Skew { .. }
            | SignatureError::Mismatch => "InvalidSignatureException",
        };
        Self::new(StatusCode::FORBIDDEN, code, error.to_string())
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::Tunnel(TunnelError::NotFound(_) | TunnelError::Closed(_)) => {
                Self::not_found(message)
            }
            ControlError::UnknownThing(_) => Self::not_found(message),
            ControlError::Registry(error) => error.into(),
            ControlError::Tunnel(TunnelError::LimitExceeded { .. }) => {
                Self::new(StatusCode::BAD_REQUEST, "LimitExceededException", message)
            }
            ControlError::Tunnel(TunnelError::ServicesFixed | TunnelError::TagKeys(..)) => {
                Self::validation(message)
            }
            ControlError::Tunnel(
                TunnelError::Unavailable | TunnelError::Uncertain | TunnelError::Moved,
            ) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                message,
            ),
            ControlError::Tunnel(TunnelError::Taken(_) | TunnelError::Damaged)
            | ControlError::Randomness(_) => {
                tracing::error!(error = message, "an API call failed");
                Self::internal()
            }
        }
    }
}
