//! Errors in the shape of AWS JSON 1.1 (control-plane specification, section 4).

use axum::http::StatusCode;

use crate::control::ControlError;
use crate::tunnels::TunnelError;

/// A refusal as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// A member breaks a constraint. The text has the form that AWS users know; it never repeats the
    /// value.
    pub(super) fn constraint(path: &str, constraint: &str) -> Self {
        Self::validation(format!(
            "1 validation error detected: Value at '{path}' failed to satisfy constraint: {constraint}"
        ))
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            message,
        )
    }

    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    pub(super) fn unknown_operation(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "UnknownOperationException",
            message,
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UnknownOperationException",
            "every operation is a POST",
        )
    }

    pub(super) fn too_large(max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            format!("the request's body is larger than {max} bytes"),
        )
    }

    pub(super) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeoutException",
            "the request's body did not arrive in time",
        )
    }

    pub(super) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalFailure",
            "internal failure; the log of the service has the reason",
        )
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::Tunnel(TunnelError::NotFound(_) | TunnelError::Closed(_)) => {
                Self::not_found(message)
            }
            ControlError::Tunnel(TunnelError::LimitExceeded { .. }) => {
                Self::new(StatusCode::BAD_REQUEST, "LimitExceededException", message)
            }
            ControlError::Tunnel(TunnelError::ServicesFixed) => Self::validation(message),
            ControlError::Tunnel(TunnelError::Unavailable) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                message,
            ),
            ControlError::Tunnel(TunnelError::Taken(_)) | ControlError::Randomness(_) => {
                tracing::error!(error = message, "an API call failed");
                Self::internal()
            }
        }
    }
}
