//! Policies of any bytes, and what they decide.

use super::{Conditions, DOCUMENT_SIZE_MAX, Decision, Policy};

/// Reads a policy from any bytes and asks it about a few calls. What was read decides as its own rules
/// say: a denial by one of two policies stays one, and nothing is allowed that neither allows.
///
/// Behind a byte of 0xff, if there is one, stands the action that is asked about.
pub fn fuzz_policy(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0xff);
    let document = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let asked = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let policy = match Policy::parse(&document) {
        Ok(policy) => policy,
        Err(error) => return assert!(!error.to_string().contains(char::is_control)),
    };
    assert!(document.len() <= DOCUMENT_SIZE_MAX);
    let conditions = Conditions::new()
        .with("aws:username", "operator*")
        .with("iot:Delete", "true")
        .with("iot:Connection.Thing.ThingName", "lamp-17")
        .with_all(
            "iot:ThingGroupArn",
            ["arn:aws:iot:eu-west-1:1:thinggroup/a", ""],
        );
    let both = Policy::union([&policy, &Policy::allow_everything()]);
    for action in ["iot:OpenTunnel", "IOT:opentunnel", "*", &asked] {
        for resource in ["*", "arn:aws:iot:eu-west-1:123456789012:tunnel/a-b", &asked] {
            let decision = policy.decide(action, resource, &conditions);
            assert_eq!(
                policy.allows(action, resource, &conditions),
                decision == Decision::Allowed
            );
            let expected = match decision {
                Decision::Denied => Decision::Denied,
                Decision::Allowed | Decision::NotAllowed => Decision::Allowed,
            };
            assert_eq!(both.decide(action, resource, &conditions), expected);
            let upper = action.to_ascii_uppercase();
            assert_eq!(policy.decide(&upper, resource, &conditions), decision);
        }
    }
    policy.asks_for(&asked);
}
