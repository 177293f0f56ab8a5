//! The registry's refusals in AWS's words. Codes and statuses are those of the model.

use axum::http::StatusCode;

use crate::api::error::ApiError;
use crate::certificates::DeviceCertificateError;
use crate::registry::RegistryError;

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::ThingNotFound(_)
            | RegistryError::CertificateNotFound(_)
            | RegistryError::PolicyNotFound(_) => Self::not_found(message),
            RegistryError::ThingExists { .. }
            | RegistryError::CertificateExists(_)
            | RegistryError::PolicyExists(_) => Self::new(
                StatusCode::CONFLICT,
                "ResourceAlreadyExistsException",
                message,
            ),
            RegistryError::VersionConflict { .. } => {
                Self::new(StatusCode::CONFLICT, "VersionConflictException", message)
            }
            // The model has no conflict for DeleteThing.
            RegistryError::ThingAttached(_) => invalid(message),
            RegistryError::CertificateActive(_) => Self::new(
                StatusCode::NOT_ACCEPTABLE,
                "CertificateStateException",
                message,
            ),
            RegistryError::CertificateHasThings(_)
            | RegistryError::CertificateHasPolicies(_)
            | RegistryError::PolicyAttached(_) => {
                Self::new(StatusCode::CONFLICT, "DeleteConflictException", message)
            }
            RegistryError::LimitExceeded { .. } => {
                Self::new(StatusCode::GONE, "LimitExceededException", message)
            }
            RegistryError::Unavailable | RegistryError::Uncertain => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                message,
            ),
        }
    }
}

impl From<DeviceCertificateError> for ApiError {
    fn from(error: DeviceCertificateError) -> Self {
        match error {
            DeviceCertificateError::Make(error) => {
                tracing::error!(%error, "a device's certificate could not be made");
                Self::internal()
            }
            DeviceCertificateError::NotACertificate(_) | DeviceCertificateError::Ended(_) => {
                Self::new(
                    StatusCode::BAD_REQUEST,
                    "CertificateValidationException",
                    error.to_string(),
                )
            }
            _ => invalid(error.to_string()),
        }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "InvalidRequestException", message)
}

pub(super) fn malformed_policy(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "MalformedPolicyException", message)
}
