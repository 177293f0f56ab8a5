//! Requests that were signed by others, with their signatures.

use super::*;

struct Vector {
    service: &'static str,
    method: &'static str,
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
    session_token: Option<&'static str>,
    signed_headers: &'static str,
    body: &'static str,
    signature: &'static str,
}

/// Sent by boto3's core (botocore 1.44.5) for `https://localhost:7401` in eu-west-1.
const BOTOCORE: &[Vector] = &[
    Vector {
        service: "IoTSecuredTunneling",
        method: "POST",
        target: "/",
        headers: &[
            ("X-Amz-Target", "IoTSecuredTunneling.ListTunnels"),
            ("Content-Type", "application/x-amz-json-1.1"),
        ],
        session_token: None,
        signed_headers: "content-type;host;x-amz-date;x-amz-target",
        body: "{\"maxResults\": 1}",
        signature: "70a803260e9f1bf453e094c796d672b01eeb298e4dfdab909b89de35d49b4118",
    },
    Vector {
        service: "IoTSecuredTunneling",
        method: "POST",
        target: "/",
        headers: &[
            ("X-Amz-Target", "IoTSecuredTunneling.ListTunnels"),
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Security-Token", "IQoJb3JpZ2luX2VjEXAMPLE/+="),
        ],
        session_token: Some("IQoJb3JpZ2luX2VjEXAMPLE/+="),
        signed_headers: "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
        body: "{}",
        signature: "0729ca442b587f535aadd97abd6ab17be31b7585f74c124f34a6aeed4a376f38",
    },
    Vector {
        service: "iot",
        method: "POST",
        target: "/things/a%3Ab_c",
        headers: &[("Content-Type", "application/json")],
        session_token: None,
        signed_headers: "content-type;host;x-amz-date",
        body: "{}",
        signature: "c45d08af66b151897ec89993d61ffc1962fb89f89349551ee05e12f6ecd55c4f",
    },
    Vector {
        service: "iot",
        method: "PUT",
        target: "/things/t1/principals",
        headers: &[(
            "x-amzn-principal",
            "arn:aws:iot:eu-west-1:000000000000:cert/ab",
        )],
        session_token: None,
        signed_headers: "host;x-amz-date;x-amzn-principal",
        body: "",
        signature: "9015cc09b9edd7d774fc51d9bfee5f996595dac3415e03b78a986db22f240ab4",
    },
    Vector {
        service: "iot",
        method: "POST",
        target: "/attached-policies/arn%3Aaws%3Aiot%3Aeu-west-1%3A000000000000%3Acert%2Fab?recursive=false",
        headers: &[],
        session_token: None,
        signed_headers: "host;x-amz-date",
        body: "",
        signature: "581589c254a28e87858ceca7493fbdac341f3cd9660a306a98c57cd43d4747b4",
    },
    Vector {
        service: "iot",
        method: "GET",
        target: "/things?attributeName=a%20b%2Bc%2Fd~&attributeValue=%C3%A9%26%3D&maxResults=3",
        headers: &[],
        session_token: None,
        signed_headers: "host;x-amz-date",
        body: "",
        signature: "e1b874e38b5fd5a5a879409e8662f96b13bd0a4687d313a3dbffa39853e3d3f1",
    },
    Vector {
        service: "iot",
        method: "GET",
        target: "/endpoint?endpointType=iot%3AData-ATS",
        headers: &[],
        session_token: None,
        signed_headers: "host;x-amz-date",
        body: "",
        signature: "200c56bb6bcc9f215d7498500e0e1091e73ddebcb4a6ff247e41b12eb5350a89",
    },
    Vector {
        service: "sts",
        method: "POST",
        target: "/",
        headers: &[(
            "Content-Type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )],
        session_token: None,
        signed_headers: "content-type;host;x-amz-date",
        body: "Action=GetCallerIdentity&Version=2011-06-15",
        signature: "6cf267fd190d9ee016e471ee304bdc24f6916d895b4508541b7b6bb7390639d6",
    },
];

#[test]
fn requests_of_botocore_verify_and_are_signed_the_same_by_us() {
    for vector in BOTOCORE {
        let credentials = credentials(vector.session_token);
        let mut headers = vec![("host", "localhost:7401"), ("x-amz-date", NOW)];
        headers.extend(vector.headers);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/20261123/eu-west-1/{}/aws4_request, SignedHeaders={}, \
             Signature={}",
            vector.service, vector.signed_headers, vector.signature
        );
        headers.push(("authorization", &authorization));
        let sent = Sent::new(
            vector.method,
            vector.target,
            &headers,
            vector.body.as_bytes(),
        );
        let verdict = sent.verify(&credentials);
        assert_eq!(
            verdict.unwrap().service,
            vector.service,
            "{}",
            vector.target
        );
        let ours = sign(
            sent.signable(),
            &credentials,
            "eu-west-1",
            vector.service,
            now(),
        );
        let (_, ours) = ours.unwrap().pop().unwrap();
        assert_eq!(ours.to_str().unwrap(), authorization);
    }
}

/// As the AWS CLI 1.46.3 sent it: unsigned headers besides the signed ones.
#[test]
fn a_captured_request_of_the_aws_cli_verifies() {
    let authorization = "AWS4-HMAC-SHA256 \
        Credential=AKIAIOSFODNN7EXAMPLE/20261123/us-east-1/IoTSecuredTunneling/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
        Signature=ea0c01c687da6de13654cba29e59ecd1d77eab4fca0b3ab96e656a9231753618";
    let body = concat!(
        r#"{"description": "demo", "tags": [{"key": "Owner", "value": "Admin"}], "#,
        r#""destinationConfig": {"thingName": "thing1", "services": ["SSH", "HTTP1"]}, "#,
        r#""timeoutConfig": {"maxLifetimeTimeoutMinutes": 30}}"#
    );
    let headers = [
        ("Accept-Encoding", "identity"),
        ("X-Amz-Target", "IoTSecuredTunneling.OpenTunnel"),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("User-Agent", "aws-cli/1.46.3"),
        ("host", "127.0.0.1:18080"),
        ("X-Amz-Date", NOW),
        ("Authorization", authorization),
        (
            "amz-sdk-invocation-id",
            "8da094ac-3b9b-465d-b098-d3ea63361028",
        ),
        ("amz-sdk-request", "attempt=1"),
        ("Content-Length", "197"),
    ];
    let sent = Sent::new("POST", "/", &headers, body.as_bytes());
    assert_eq!(sent.body.len(), 197);
    sent.verify(&credentials(None)).unwrap();
    for index in 0..sent.body.len() {
        let mut changed = sent.clone();
        changed.body[index] ^= 1;
        let verdict = changed.verify(&credentials(None));
        assert_eq!(verdict, Err(SignatureError::Mismatch), "byte {index}");
    }
}

/// Signatures of the suite that AWS publishes for signers: 30 August 2015, us-east-1, "service".
#[test]
fn the_public_suite() {
    let own = Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: None,
    };
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let trim = [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\" ")];
    let cases: [(&str, &str, &[(&str, &str)], &[u8], &str); 6] = [
        (
            "GET",
            "/",
            &[],
            b"",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "/",
            &[],
            b"",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/example/..",
            &[],
            b"",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "/",
            &[form],
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "GET",
            "/",
            &trim,
            b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
    ];
    let moment = Moment::parse("20150830T123600Z").unwrap();
    for (method, target, more, body, expected) in cases {
        let mut headers = vec![("Host", "example.amazonaws.com")];
        headers.extend(more);
        let sent = Sent::new(method, target, &headers, body);
        let added = sign(sent.signable(), &own, "us-east-1", "service", moment).unwrap();
        let (name, value) = added.last().unwrap();
        assert_eq!(name, "authorization");
        let value = value.to_str().unwrap();
        assert!(
            value.ends_with(&format!("Signature={expected}")),
            "{method} {target}: {value}"
        );
    }
}
