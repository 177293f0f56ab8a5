use rcgen::{CertificateParams, KeyPair, PublicKeyData};

use super::*;
use crate::certificates::DeviceCertificate;

fn request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key);
    (key, request.unwrap().pem().unwrap())
}

#[tokio::test]
async fn keys_come_with_their_certificate_and_only_once() {
    let mut fixture = Fixture::new().await;
    let path = "/keys-and-certificate?setAsActive=true";
    let made = fixture.ok("POST", path, Value::Null).await;
    assert_eq!(
        members(&made),
        [
            "certificateArn",
            "certificateId",
            "certificatePem",
            "keyPair"
        ]
    );
    assert_eq!(members(&made["keyPair"]), ["PrivateKey", "PublicKey"]);
    let key = KeyPair::from_pem(&text(&made["keyPair"]["PrivateKey"])).unwrap();
    assert_eq!(made["keyPair"]["PublicKey"], key.public_key_pem());
    let id = text(&made["certificateId"]);
    let arn = format!("arn:aws:iot:us-east-1:000000000000:cert/{id}");
    assert_eq!(made["certificateArn"], arn);

    let path = format!("/certificates/{id}");
    let described = fixture.ok("GET", &path, Value::Null).await;
    let description = &described["certificateDescription"];
    assert_eq!(
        members(description),
        [
            "certificateArn",
            "certificateId",
            "certificateMode",
            "certificatePem",
            "creationDate",
            "lastModifiedDate",
            "ownedBy",
            "status",
            "validity"
        ]
    );
    assert_eq!(description["status"], "ACTIVE");
    assert_eq!(description["certificatePem"], made["certificatePem"]);
    assert!(description["creationDate"].as_f64().unwrap() > 1.7e9);
    let validity = &description["validity"];
    let days = validity["notAfter"].as_f64().unwrap() - validity["notBefore"].as_f64().unwrap();
    assert!((3649.0..=3650.0).contains(&(days / 86_400.0)));
    assert!(!described.to_string().contains("PRIVATE"));
}

#[tokio::test]
async fn requests_are_signed_or_refused_with_the_reason() {
    let mut fixture = Fixture::new().await;
    let (key, pem) = request();
    let body = json!({"certificateSigningRequest": pem});
    let made = fixture.ok("POST", "/certificates", body.clone()).await;
    assert_eq!(
        members(&made),
        ["certificateArn", "certificateId", "certificatePem"]
    );
    let der =
        rustls_pki_types::pem::PemObject::from_pem_slice(text(&made["certificatePem"]).as_bytes());
    let der: rustls_pki_types::CertificateDer<'_> = der.unwrap();
    let parsed = rustls::server::ParsedCertificate::try_from(&der).unwrap();
    let info = parsed.subject_public_key_info();
    assert_eq!(&*info, key.subject_public_key_info());
    let again = fixture.ok("POST", "/certificates", body).await;
    assert_ne!(again["certificateId"], made["certificateId"]);

    for (bad, part) in [
        (json!({}), "must not be null"),
        (json!({"certificateSigningRequest": ""}), "length greater"),
        (
            json!({"certificateSigningRequest": "x".repeat(4097)}),
            "length less",
        ),
        (
            json!({"certificateSigningRequest": key.serialize_pem()}),
            "not a certificate signing request",
        ),
    ] {
        let refused = fixture.refused("POST", "/certificates", bad).await;
        assert_eq!(code(&refused), INVALID);
        assert!(refused.2.contains(part), "{refused:?}");
        assert!(!refused.2.contains("PRIVATE"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_registered_once_and_inactive() {
    let mut fixture = Fixture::new().await;
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    let path = "/certificate/register-no-ca";
    let body = json!({"certificatePem": pem});
    let made = fixture.ok("POST", path, body.clone()).await;
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let expected = DeviceCertificate::read(&pem, now).unwrap();
    assert_eq!(made["certificateId"], expected.id.to_string());
    let id = text(&made["certificateId"]);
    let described = fixture
        .ok("GET", &format!("/certificates/{id}"), Value::Null)
        .await;
    let description = &described["certificateDescription"];
    assert_eq!(description["status"], "INACTIVE");
    assert_eq!(description["certificateMode"], "SNI_ONLY");
    let refused = fixture.refused("POST", path, body).await;
    assert_eq!(code(&refused), EXISTS);
    let bad = json!({"certificatePem": "x"});
    let refused = fixture.refused("POST", path, bad).await;
    assert_eq!(code(&refused), (400, "CertificateValidationException"));
    let bad = json!({"certificatePem": pem, "status": "PENDING_TRANSFER"});
    let refused = fixture.refused("POST", path, bad).await;
    assert_eq!(code(&refused), INVALID);
}

#[tokio::test]
async fn statuses_are_set_and_deletion_takes_its_steps() {
    let mut fixture = Fixture::new().await;
    let (id, arn) = fixture.certificate().await;
    fixture.thing("t").await;
    fixture.policy("p").await;
    let path = format!("/certificates/{id}");
    for status in ["ACTIVE", "INACTIVE", "REVOKED", "ACTIVE"] {
        let set = format!("{path}?newStatus={status}");
        assert_eq!(fixture.ok("PUT", &set, Value::Null).await, json!({}));
        let described = fixture.ok("GET", &path, Value::Null).await;
        assert_eq!(described["certificateDescription"]["status"], status);
    }
    for bad in [
        "",
        "?newStatus=",
        "?newStatus=active",
        "?newStatus=PENDING_TRANSFER",
    ] {
        let set = format!("{path}{bad}");
        let refused = fixture.refused("PUT", &set, Value::Null).await;
        assert_eq!(code(&refused), INVALID, "{bad}");
    }
    let force = format!("{path}?forceDelete=true");
    let refused = fixture.refused("DELETE", &force, Value::Null).await;
    assert_eq!(code(&refused), (406, "CertificateStateException"));
    let set = format!("{path}?newStatus=INACTIVE");
    fixture.ok("PUT", &set, Value::Null).await;
    fixture.ok_with("PUT", "/things/t/principals", &arn).await;
    let refused = fixture.refused("DELETE", &force, Value::Null).await;
    assert_eq!(code(&refused), DELETE_CONFLICT);
    fixture
        .ok_with("DELETE", "/things/t/principals", &arn)
        .await;
    let target = json!({"target": arn});
    fixture.ok("PUT", "/target-policies/p", target).await;
    let refused = fixture.refused("DELETE", &path, Value::Null).await;
    assert_eq!(code(&refused), DELETE_CONFLICT);
    fixture.ok("DELETE", &force, Value::Null).await;
    let refused = fixture.refused("DELETE", &path, Value::Null).await;
    assert_eq!(code(&refused), NOT_FOUND);
    for bad in [&id[1..], &format!("{id}0"), &id.replace(&id[..1], "g")] {
        let path = format!("/certificates/{bad}");
        let refused = fixture.refused("GET", &path, Value::Null).await;
        assert_eq!(code(&refused), INVALID, "{bad}");
    }
}

#[tokio::test]
async fn lists_come_by_age_in_either_direction() {
    let mut fixture = Fixture::new().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(fixture.certificate().await.0);
    }
    let mut orders = Vec::new();
    for ascending in [true, false] {
        let mut seen = Vec::new();
        let mut marker = String::new();
        loop {
            let path = format!("/certificates?pageSize=2&isAscendingOrder={ascending}{marker}");
            let listed = fixture.ok("GET", &path, Value::Null).await;
            let page = listed["certificates"].as_array().unwrap();
            seen.extend(page.iter().map(|one| text(&one["certificateId"])));
            let Some(next) = listed.get("nextMarker") else {
                break;
            };
            let next = text(next).replace('+', "%2B").replace('/', "%2F");
            marker = format!("&marker={next}");
        }
        let mut sorted = seen.clone();
        sorted.sort();
        made.sort();
        assert_eq!(sorted, made);
        orders.push(seen);
    }
    orders[1].reverse();
    assert_eq!(orders[0], orders[1]);
}
