//! Certificates: made here, signed here, or brought along.

use serde::Serialize;

use super::constraints::{CERTIFICATE_PEM, SIGNING_REQUEST};
use super::error::invalid;
use super::paging::{self, BY_MARKER};
use super::{Answer, Iot, authorize, empty, everything, read};
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::input::Input;
use crate::api::outcome::Outcome;
use crate::certificates::DeviceCertificate;
use crate::clock::Timestamp;
use crate::registry::{Certificate, CertificateOrigin, CertificateStatus, Registry};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateOutput<'a> {
    certificate_arn: String,
    certificate_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_pem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_pair: Option<KeyPairOutput<'a>>,
}

/// The one place where a private key leaves; the answer is never logged.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyPairOutput<'a> {
    public_key: &'a str,
    private_key: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribeOutput<'a> {
    certificate_description: Description<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    #[serde(flatten)]
    summary: Summary,
    certificate_pem: &'a str,
    owned_by: &'a str,
    last_modified_date: Timestamp,
    validity: Validity,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListOutput {
    certificates: Vec<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    certificate_arn: String,
    certificate_id: String,
    status: &'static str,
    certificate_mode: &'static str,
    creation_date: Timestamp,
}

impl<R: Registry> Iot<R> {
    pub(super) async fn create_keys(&self, call: &Call) -> Answer {
        let status = initial_status(call)?;
        authorize(call, "iot:CreateKeysAndCertificate", everything())?;
        let now = self.clock.now().wall;
        let (certificate, keys) = self.issuer.issue_keys(now.to_date_time())?;
        let mut output = self.output(&certificate);
        let issued = CertificateOrigin::Issued;
        self.add(call, certificate.clone(), issued, status).await?;
        output.certificate_pem = Some(&certificate.pem);
        output.key_pair = Some(KeyPairOutput {
            public_key: &keys.public_pem,
            private_key: &keys.private_pem,
        });
        Ok(Outcome::json(&output))
    }

    pub(super) async fn sign_request(&self, call: &Call) -> Answer {
        let status = initial_status(call)?;
        let body = call.json()?;
        let input = Input::new(&body);
        let request = input.required_text("certificateSigningRequest", &SIGNING_REQUEST)?;
        authorize(call, "iot:CreateCertificateFromCsr", everything())?;
        let now = self.clock.now().wall.to_date_time();
        let certificate = self.issuer.sign_request(request, now)?;
        let mut output = self.output(&certificate);
        let issued = CertificateOrigin::Issued;
        self.add(call, certificate.clone(), issued, status).await?;
        output.certificate_pem = Some(&certificate.pem);
        Ok(Outcome::json(&output))
    }

    pub(super) async fn register_certificate(&self, call: &Call) -> Answer {
        let body = call.json()?;
        let input = Input::new(&body);
        let pem = input.required_text("certificatePem", &CERTIFICATE_PEM)?;
        let status = input.word("status", &CertificateStatus::ALL)?;
        authorize(call, "iot:RegisterCertificateWithoutCA", everything())?;
        let now = self.clock.now().wall.to_date_time();
        let certificate = DeviceCertificate::read(pem, now)?;
        let output = self.output(&certificate);
        let registered = CertificateOrigin::Registered;
        let status = status.unwrap_or(CertificateStatus::Inactive);
        self.add(call, certificate, registered, status).await?;
        Ok(Outcome::json(&output))
    }

    pub(super) async fn describe_certificate(&self, call: &Call, id: &str) -> Answer {
        let id = read::certificate_id(id)?;
        authorize(call, "iot:DescribeCertificate", [self.certificate_arn(&id)])?;
        let certificate = self.registry.certificate(&id).await?;
        Ok(Outcome::json(&DescribeOutput {
            certificate_description: Description {
                summary: self.summary(&certificate),
                certificate_pem: &certificate.pem,
                owned_by: self.naming.account(),
                last_modified_date: certificate.updated,
                validity: Validity {
                    not_before: certificate.not_before,
                    not_after: certificate.not_after,
                },
            },
        }))
    }

    pub(super) async fn list_certificates(&self, call: &Call) -> Answer {
        let query = BY_MARKER.by_age(call)?;
        authorize(call, "iot:ListCertificates", everything())?;
        let page = self.registry.list_certificates(query).await?;
        let last = page.items.last().map(|last| (last.created, last.id));
        let certificates = page.items.iter();
        Ok(Outcome::json(&ListOutput {
            certificates: certificates.map(|one| self.summary(one)).collect(),
            next_marker: paging::next(page.more, last),
        }))
    }

    pub(super) async fn update_certificate(&self, call: &Call, id: &str) -> Answer {
        let id = read::certificate_id(id)?;
        let status = new_status(call)?;
        authorize(call, "iot:UpdateCertificate", [self.certificate_arn(&id)])?;
        let now = self.clock.now().wall;
        let set = self.registry.set_certificate_status(now, &id, status);
        set.await?;
        empty()
    }

    pub(super) async fn delete_certificate(&self, call: &Call, id: &str) -> Answer {
        let id = read::certificate_id(id)?;
        let force = read::flag(call, "forceDelete")?;
        authorize(call, "iot:DeleteCertificate", [self.certificate_arn(&id)])?;
        self.registry.delete_certificate(&id, force).await?;
        empty()
    }

    async fn add(
        &self,
        call: &Call,
        certificate: DeviceCertificate,
        origin: CertificateOrigin,
        status: CertificateStatus,
    ) -> Result<(), ApiError> {
        let now = self.clock.now().wall;
        let id = certificate.id;
        let new = Certificate {
            id,
            pem: certificate.pem.into(),
            status,
            origin,
            created: now,
            updated: now,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        };
        self.registry.add_certificate(new).await?;
        call.note_resource(self.certificate_arn(&id));
        Ok(())
    }

    fn output(&self, certificate: &DeviceCertificate) -> CreateOutput<'static> {
        CreateOutput {
            certificate_arn: self.certificate_arn(&certificate.id),
            certificate_id: certificate.id.to_string(),
            certificate_pem: None,
            key_pair: None,
        }
    }

    fn summary(&self, certificate: &Certificate) -> Summary {
        Summary {
            certificate_arn: self.certificate_arn(&certificate.id),
            certificate_id: certificate.id.to_string(),
            status: certificate.status.as_str(),
            certificate_mode: match certificate.origin {
                CertificateOrigin::Issued => "DEFAULT",
                // What AWS says of certificates that it knows by themselves.
                CertificateOrigin::Registered => "SNI_ONLY",
            },
            creation_date: certificate.created,
        }
    }
}

fn initial_status(call: &Call) -> Result<CertificateStatus, ApiError> {
    Ok(match read::flag(call, "setAsActive")? {
        true => CertificateStatus::Active,
        false => CertificateStatus::Inactive,
    })
}

fn new_status(call: &Call) -> Result<CertificateStatus, ApiError> {
    match call.target.parameter("newStatus") {
        None => Err(ApiError::constraint("newStatus", "Member must not be null")),
        Some("PENDING_TRANSFER" | "PENDING_ACTIVATION" | "REGISTER_INACTIVE") => Err(invalid(
            "this status cannot be set; newStatus is one of ACTIVE, INACTIVE, REVOKED",
        )),
        Some(text) => CertificateStatus::parse(text).ok_or_else(|| {
            let constraint = "Member must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED]";
            ApiError::constraint("newStatus", constraint)
        }),
    }
}
