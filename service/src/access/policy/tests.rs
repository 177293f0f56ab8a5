//! Documents as operators write them, and what follows from each.

use super::*;

fn policy(document: &str) -> Policy {
    Policy::parse(document).unwrap_or_else(|error| panic!("{error}\n{document}"))
}

/// A policy of these statements.
fn statements(statements: &str) -> Policy {
    policy(&format!(
        r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#
    ))
}

/// An allowing statement with this condition block, decided on for these circumstances.
fn holds(condition: &str, conditions: &Conditions) -> bool {
    let statement = format!(
        r#"{{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {condition}}}"#
    );
    statements(&statement).allows("iot:OpenTunnel", TUNNELS, conditions)
}

const TUNNELS: &str = "arn:aws:iot:us-east-1:000000000000:tunnel/*";
const THING: &str = "arn:aws:iot:us-east-1:000000000000:thing/lamp-1";

#[test]
fn nothing_is_allowed_unless_said_and_a_denial_wins() {
    let none = Conditions::new();
    let policy = statements(
        r#"{"Effect": "Allow", "Action": ["iot:*Tunnel", "iot:listtunnels"], "Resource": "*"},
           {"Effect": "Deny", "Action": "iot:CloseTunnel", "Resource": "*"},
           {"Effect": "Allow", "Action": "iot:CloseTunnel", "Resource": "*"}"#,
    );
    for (action, expected) in [
        ("iot:OpenTunnel", Decision::Allowed),
        ("IOT:opentunnel", Decision::Allowed),
        ("iot:ListTunnels", Decision::Allowed),
        ("iot:CloseTunnel", Decision::Denied),
        ("iot:TagResource", Decision::NotAllowed),
        ("sts:OpenTunnel", Decision::NotAllowed),
    ] {
        assert_eq!(policy.decide(action, TUNNELS, &none), expected, "{action}");
    }
    let all = Policy::allow_everything();
    assert!(all.allows("iot:CloseTunnel", TUNNELS, &none));
    let denied = Policy::union([&all, &policy]);
    assert_eq!(
        denied.decide("iot:CloseTunnel", TUNNELS, &none),
        Decision::Denied
    );
    let nobody = Policy::union([]);
    assert_eq!(
        nobody.decide("iot:OpenTunnel", TUNNELS, &none),
        Decision::NotAllowed
    );
}

#[test]
fn resources_and_their_negation() {
    let none = Conditions::new();
    let lamps = statements(
        r#"{"Effect": "Allow", "Action": "*", "Resource": ["arn:aws:iot:*:*:thing/lamp-?"]}"#,
    );
    assert!(lamps.allows("iot:OpenTunnel", THING, &none));
    assert!(!lamps.allows("iot:OpenTunnel", TUNNELS, &none));
    assert!(!lamps.allows("iot:OpenTunnel", &THING.replace("lamp", "Lamp"), &none));
    let others = statements(
        r#"{"Effect": "Allow", "NotAction": "iot:Close*", "NotResource": "arn:aws:iot:*:*:thing/lamp-1"}"#,
    );
    assert!(others.allows("iot:OpenTunnel", TUNNELS, &none));
    assert!(!others.allows("iot:OpenTunnel", THING, &none));
    assert!(!others.allows("iot:CloseTunnel", TUNNELS, &none));
}

#[test]
fn the_smallest_policy_of_a_device() {
    // Control-plane specification, section 14.3.
    let own = "${iot:Connection.Thing.ThingName}";
    let policy = statements(&format!(
        r#"{{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:r:0:client/{own}"}},
           {{"Effect": "Allow", "Action": "iot:Subscribe",
             "Resource": "arn:aws:iot:r:0:topicfilter/$aws/things/{own}/tunnels/notify"}}"#
    ));
    let thing = Conditions::new().with("iot:Connection.Thing.ThingName", "lamp");
    let filter =
        |name: &str| format!("arn:aws:iot:r:0:topicfilter/$aws/things/{name}/tunnels/notify");
    assert!(policy.allows("iot:Connect", "arn:aws:iot:r:0:client/lamp", &thing));
    assert!(policy.allows("iot:Subscribe", &filter("lamp"), &thing));
    for other in ["lamp2", "+", "#", "*", ""] {
        assert!(
            !policy.allows("iot:Subscribe", &filter(other), &thing),
            "{other}"
        );
    }
    let stranger = Conditions::new();
    assert!(!policy.allows("iot:Connect", "arn:aws:iot:r:0:client/lamp", &stranger));
}

#[test]
fn operators_on_one_value() {
    let sent = Conditions::new().with("k:a", "One").with("k:b", "false");
    for (condition, expected) in [
        (r#"{"StringEquals": {"k:a": "One"}}"#, true),
        (r#"{"StringEquals": {"K:A": ["x", "One"]}}"#, true),
        (r#"{"StringEquals": {"k:a": "one"}}"#, false),
        (r#"{"StringEquals": {"k:a": "O*"}}"#, false),
        (r#"{"StringEqualsIgnoreCase": {"k:a": "oNE"}}"#, true),
        (r#"{"StringNotEqualsIgnoreCase": {"k:a": "oNE"}}"#, false),
        (r#"{"StringNotEquals": {"k:a": ["x", "y"]}}"#, true),
        (r#"{"StringNotEquals": {"k:a": ["x", "One"]}}"#, false),
        (r#"{"StringLike": {"k:a": "O*e"}}"#, true),
        (r#"{"StringNotLike": {"k:a": "O*e"}}"#, false),
        (
            r#"{"ArnEquals": {"k:a": "O*"}, "ArnLike": {"k:a": "*e"}}"#,
            true,
        ),
        (r#"{"Bool": {"k:b": "False"}}"#, true),
        (r#"{"Bool": {"k:b": false}}"#, true),
        (r#"{"Bool": {"k:b": "true"}}"#, false),
        (r#"{"Null": {"k:a": "false", "k:c": true}}"#, true),
        (r#"{"Null": {"k:a": "true"}}"#, false),
        // Every key and every operator has to hold.
        (r#"{"StringEquals": {"k:a": "One", "k:b": "x"}}"#, false),
        (
            r#"{"StringEquals": {"k:a": "One"}, "Bool": {"k:b": true}}"#,
            false,
        ),
        ("{}", true),
        (r#"{"StringEquals": {"k:a": "${k:a}"}}"#, true),
        (r#"{"StringEquals": {"k:a": "${k:c}"}}"#, false),
    ] {
        assert_eq!(holds(condition, &sent), expected, "{condition}");
    }
}

#[test]
fn case_is_ignored_in_what_a_variable_stands_for_too() {
    let sent = Conditions::new()
        .with("aws:username", "Alice")
        .with("aws:ResourceTag/by", "ALICE");
    for (condition, expected) in [
        (
            r#"{"StringEqualsIgnoreCase": {"aws:ResourceTag/by": "${aws:username}"}}"#,
            true,
        ),
        (
            r#"{"StringEqualsIgnoreCase": {"aws:ResourceTag/by": "${aws:UserName}"}}"#,
            true,
        ),
        (
            r#"{"StringEqualsIgnoreCaseIfExists": {"aws:ResourceTag/by": "${aws:username}"}}"#,
            true,
        ),
        (
            r#"{"ForAnyValue:StringEqualsIgnoreCase": {"aws:ResourceTag/by": "${aws:username}"}}"#,
            true,
        ),
        (
            r#"{"StringNotEqualsIgnoreCase": {"aws:ResourceTag/by": "${aws:username}"}}"#,
            false,
        ),
        (
            r#"{"ForAllValues:StringNotEqualsIgnoreCase": {"aws:ResourceTag/by": "${aws:username}"}}"#,
            false,
        ),
        (
            r#"{"StringEqualsIgnoreCase": {"aws:username": "${aws:ResourceTag/by}"}}"#,
            true,
        ),
        (
            r#"{"StringEqualsIgnoreCase": {"aws:ResourceTag/by": "x${aws:username}"}}"#,
            false,
        ),
        // Where case matters, it does in both.
        (
            r#"{"StringEquals": {"aws:ResourceTag/by": "${aws:username}"}}"#,
            false,
        ),
        (
            r#"{"StringLike": {"aws:ResourceTag/by": "${aws:username}*"}}"#,
            false,
        ),
        (
            r#"{"StringLike": {"aws:username": "${aws:username}"}}"#,
            true,
        ),
    ] {
        assert_eq!(holds(condition, &sent), expected, "{condition}");
    }
    let denied = statements(
        r#"{"Effect": "Allow", "Action": "*", "Resource": "*"},
           {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition":
             {"StringEqualsIgnoreCase": {"aws:ResourceTag/not-by": "${aws:username}"}}}"#,
    );
    let tagged = sent.with("aws:ResourceTag/not-by", "aLICE");
    let decision = denied.decide("iot:OpenTunnel", TUNNELS, &tagged);
    assert_eq!(decision, Decision::Denied);
}

#[test]
fn keys_that_the_request_does_not_have() {
    let none = Conditions::new();
    for (operator, expected) in [
        ("StringEquals", false),
        ("StringLike", false),
        ("StringNotEquals", true),
        ("StringNotLike", true),
        ("StringEqualsIfExists", true),
        ("StringNotEqualsIfExists", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAnyValue:StringNotEquals", false),
        ("ForAnyValue:StringLikeIfExists", true),
        ("ForAllValues:StringEquals", true),
        ("ForAllValues:StringNotEquals", true),
    ] {
        let condition = format!(r#"{{"{operator}": {{"k:a": "x"}}}}"#);
        assert_eq!(holds(&condition, &none), expected, "{operator}");
    }
    assert!(!holds(r#"{"Bool": {"k:a": "false"}}"#, &none));
    assert!(holds(r#"{"BoolIfExists": {"k:a": "false"}}"#, &none));
}

#[test]
fn operators_on_several_values() {
    let sent = Conditions::new().with_all("k:s", ["ssh", "http"]);
    for (condition, expected) in [
        (r#"{"ForAnyValue:StringEquals": {"k:s": "ssh"}}"#, true),
        (
            r#"{"ForAnyValue:StringEquals": {"k:s": ["x", "y"]}}"#,
            false,
        ),
        (
            r#"{"ForAllValues:StringEquals": {"k:s": ["ssh", "http", "x"]}}"#,
            true,
        ),
        (r#"{"ForAllValues:StringEquals": {"k:s": "ssh"}}"#, false),
        (
            r#"{"ForAllValues:StringLike": {"k:s": ["s*", "h*"]}}"#,
            true,
        ),
        (r#"{"ForAnyValue:StringNotEquals": {"k:s": "ssh"}}"#, true),
        (r#"{"ForAllValues:StringNotEquals": {"k:s": "ssh"}}"#, false),
        (r#"{"StringEquals": {"k:s": "http"}}"#, true),
        (r#"{"StringNotEquals": {"k:s": "http"}}"#, false),
        (r#"{"StringNotEquals": {"k:s": "x"}}"#, true),
    ] {
        assert_eq!(holds(condition, &sent), expected, "{condition}");
    }
}

#[test]
fn what_is_asked_for_is_known() {
    let policy = statements(
        r#"{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:thing/${aws:username}",
            "Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}}}"#,
    );
    assert!(policy.asks_for("aws:ResourceTag/"));
    assert!(policy.asks_for("aws:username"));
    assert!(!policy.asks_for("aws:RequestTag/"));
    assert!(!Policy::allow_everything().asks_for(""));
}

#[test]
fn without_variables_in_the_old_version() {
    let old = policy(
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:${aws:username}"}}"#,
    );
    let sent = Conditions::new().with("aws:username", "u");
    assert!(!old.allows("iot:OpenTunnel", "arn:u", &sent));
    assert!(old.allows("iot:OpenTunnel", "arn:${aws:username}", &sent));
}

#[test]
fn a_refusal_names_the_place() {
    let good = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
    let statement = |from: &str, to: &str| {
        assert!(good.contains(from));
        let text = good.replace(from, to);
        format!(r#"{{"Version": "2012-10-17", "Statement": [{good}, {text}]}}"#)
    };
    let condition = |text: &str| statement("\"*\"}", &format!("\"*\", \"Condition\": {text}}}"));
    for (document, place, problem) in [
        ("", "the policy document", "not JSON"),
        ("[]", "the policy document", "must be an object"),
        ("{}", "the policy document", "has no Statement"),
        (r#"{"Statement": []}"#, "Statement", "must not be empty"),
        (
            r#"{"Statement": ["x"]}"#,
            "Statement[0]",
            "must be an object",
        ),
        (
            r#"{"Version": "2020-01-01", "Statement": []}"#,
            "Version",
            "must be 2012-10-17",
        ),
        (
            r#"{"Version": 1, "Statement": []}"#,
            "Version",
            "must be a text",
        ),
        (r#"{"version": "x"}"#, "version", "not known"),
        (
            r#"{"Id": "a", "Id": "b"}"#,
            "the policy document",
            "comes twice",
        ),
        (
            &statement("Allow", "allow"),
            "Statement[1].Effect",
            "must be Allow or Deny",
        ),
        (
            &statement("\"Effect\": \"Allow\", ", ""),
            "Statement[1]",
            "has no Effect",
        ),
        (
            &statement("\"Action\": \"*\", ", ""),
            "Statement[1]",
            "neither Action",
        ),
        (
            &statement(", \"Resource\": \"*\"", ""),
            "Statement[1]",
            "neither Resource",
        ),
        (
            &statement("Action", "Actions"),
            "Statement[1].Actions",
            "not known",
        ),
        (
            &statement("Effect", "Principal"),
            "Statement[1].Principal",
            "not known here",
        ),
        (
            &statement("\"Action\": \"*\"", "\"Action\": \"OpenTunnel\""),
            "Statement[1].Action",
            "service:Action",
        ),
        (
            &statement("\"Action\": \"*\"", "\"Action\": [\"iot:*\", \"a b:c\"]"),
            "Statement[1].Action[1]",
            "service:Action",
        ),
        (
            &statement("\"Action\": \"*\"", "\"Action\": []"),
            "Statement[1].Action",
            "must not be empty",
        ),
        (
            &statement(
                "\"Action\": \"*\"",
                "\"Action\": \"*\", \"NotAction\": \"*\"",
            ),
            "Statement[1].NotAction",
            "only one",
        ),
        (
            &statement("\"Resource\": \"*\"", "\"Resource\": \"tunnel/*\""),
            "Statement[1].Resource",
            "begin with arn:",
        ),
        (
            &statement("\"Resource\": \"*\"", "\"Resource\": \"arn:${x\""),
            "Statement[1].Resource",
            "variable",
        ),
        (
            &condition(r#"{"IpAddress": {"aws:SourceIp": "1"}}"#),
            "Statement[1].Condition.IpAddress",
            "no operator",
        ),
        (
            &condition(r#"{"NullIfExists": {"a:b": "true"}}"#),
            "Statement[1].Condition.NullIfExists",
            "no operator",
        ),
        (
            &condition(r#"{"ForSome:Bool": {"a:b": "true"}}"#),
            "Statement[1].Condition.ForSome:Bool",
            "no operator",
        ),
        (
            &condition(r#"{"Bool": {"a:b": ["true", "1"]}}"#),
            "Statement[1].Condition.Bool.a:b[1]",
            "true or false",
        ),
        (
            &condition(r#"{"Bool": {"ab": "true"}}"#),
            "Statement[1].Condition.Bool.ab",
            "condition key",
        ),
        (
            &condition(r#"{"Bool": "x"}"#),
            "Statement[1].Condition.Bool",
            "must be an object",
        ),
        (
            &condition(r#"{"StringLike": {"a:b": null}}"#),
            "Statement[1].Condition.StringLike.a:b",
            "must be a text",
        ),
        (
            &condition(r#"{"StringLike": {"a:b": []}}"#),
            "Statement[1].Condition.StringLike.a:b",
            "must not be empty",
        ),
        ("{\"a\u{202e}\": 1}", "a\\u{202e}", "not known"),
    ] {
        let error = Policy::parse(document).unwrap_err();
        assert_eq!(error.place, place, "{document}");
        assert!(error.problem.contains(problem), "{document}: {error}");
    }
}

#[test]
fn documents_have_a_bound() {
    let good = r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    let padded = |size: usize| good.to_owned() + &" ".repeat(size - good.len());
    Policy::parse(&padded(DOCUMENT_SIZE_MAX)).unwrap();
    let error = Policy::parse(&padded(DOCUMENT_SIZE_MAX + 1)).unwrap_err();
    assert!(
        error.to_string().contains("larger than 20480 bytes"),
        "{error}"
    );
    let deep = "[".repeat(10_000);
    assert!(Policy::parse(&deep).is_err());
}

/// Thing groups do not exist here. Their key is refused, and not taken for absent: see what that would say.
#[test]
fn thing_groups_are_refused_when_the_policy_is_read() {
    for key in ["iot:ThingGroupArn", "IOT:thinggrouparn"] {
        for operator in ["ForAnyValue:StringLike", "ForAllValues:StringLikeIfExists"] {
            let document = format!(
                r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Deny", "Action": "*",
                    "Resource": "*", "Condition": {{"{operator}": {{"{key}": "*"}}}}}}]}}"#
            );
            let text = Policy::parse(&document).unwrap_err().to_string();
            assert!(
                text.contains(key) && text.contains("no thing groups"),
                "{text}"
            );
        }
    }
}

/// What AWS does with a key that a request does not have.
#[test]
fn an_absent_key_fits_no_value_and_all_values() {
    let none = Conditions::new();
    for (operator, expected) in [
        ("StringEquals", false),
        ("StringNotEquals", true),
        ("StringEqualsIfExists", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAnyValue:StringNotEquals", false),
        ("ForAnyValue:StringEqualsIfExists", true),
        ("ForAllValues:StringEquals", true),
        ("ForAllValues:StringNotEquals", true),
        ("ForAllValues:StringEqualsIfExists", true),
    ] {
        let condition = format!(r#"{{"{operator}": {{"iot:Never": "x"}}}}"#);
        assert_eq!(holds(&condition, &none), expected, "{operator}");
    }
}
