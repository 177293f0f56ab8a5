//! Reading policy documents.

use std::fmt;

use adit_proto::escape::Escaped;

use super::condition::{Condition, Operator};
use super::json::Json;
use super::pattern::{Pattern, Syntax};
use super::{Effect, Policy, Selection, Statement};

/// Size of a document, in bytes. AWS allows a user 2 to 10 KiB of them.
pub const DOCUMENT_SIZE_MAX: usize = 20 * 1024;

/// Why a document is no policy: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InvalidPolicy {
    /// Like `Statement[0].Condition.StringLike`; safe to print.
    pub place: String,
    /// In words.
    pub problem: String,
}

type Parsed<T> = Result<T, InvalidPolicy>;

pub(super) fn parse(document: &str) -> Parsed<Policy> {
    let top = Place::top();
    if document.len() > DOCUMENT_SIZE_MAX {
        let problem = format!("it is larger than {DOCUMENT_SIZE_MAX} bytes");
        return Err(top.invalid(problem));
    }
    let json: Json = serde_json::from_str(document)
        .map_err(|error| top.invalid(format!("it is not JSON: {error}")))?;
    parse_json(&json, top)
}

/// A policy that is JSON already.
pub(super) fn parse_json(json: &Json, top: Place) -> Parsed<Policy> {
    let mut version = None;
    let mut statements = None;
    for (name, value) in object(json, &top)? {
        let place = top.member(name);
        match name.as_str() {
            "Version" => version = Some(text(value, &place)?),
            "Statement" => statements = Some((list(value), place)),
            "Id" => drop(text(value, &place)?),
            _ => return Err(place.unknown("Version, Id, Statement")),
        }
    }
    let variables = match version {
        Some("2012-10-17") => true,
        Some("2008-10-17") | None => false,
        Some(_) => {
            let place = top.member("Version");
            return Err(place.invalid("must be 2012-10-17 or 2008-10-17"));
        }
    };
    let (statements, place) = statements.ok_or_else(|| top.invalid("has no Statement"))?;
    if statements.is_empty() {
        return Err(place.invalid("must not be empty"));
    }
    let statements = statements.iter().enumerate();
    let statements =
        statements.map(|(index, json)| statement(json, &place.element(index), variables));
    Ok(Policy {
        statements: statements.collect::<Result<_, _>>()?,
    })
}

fn statement(json: &Json, place: &Place, variables: bool) -> Parsed<Statement> {
    let (mut effect, mut actions, mut resources, mut conditions) = (None, None, None, Vec::new());
    for (name, value) in object(json, place)? {
        let place = &place.member(name);
        match name.as_str() {
            "Sid" => drop(text(value, place)?),
            "Effect" => {
                effect = Some(match text(value, place)? {
                    "Allow" => Effect::Allow,
                    "Deny" => Effect::Deny,
                    _ => return Err(place.invalid("must be Allow or Deny")),
                });
            }
            "Action" | "NotAction" => {
                let negated = name == "NotAction";
                let selection = selection(value, place, negated, action)?;
                if actions.replace(selection).is_some() {
                    return Err(place.invalid("only one of Action and NotAction may be there"));
                }
            }
            "Resource" | "NotResource" => {
                let negated = name == "NotResource";
                let read = |text: &str, place: &Place| resource(text, place, variables);
                let selection = selection(value, place, negated, read)?;
                if resources.replace(selection).is_some() {
                    return Err(place.invalid("only one of Resource and NotResource may be there"));
                }
            }
            "Condition" => conditions = condition_block(value, place, variables)?,
            "Principal" | "NotPrincipal" => {
                let problem = "is not known here: whom a policy is for, where it is attached says";
                return Err(place.invalid(problem));
            }
            _ => {
                let known = "Sid, Effect, Action, NotAction, Resource, NotResource, Condition";
                return Err(place.unknown(known));
            }
        }
    }
    Ok(Statement {
        effect: effect.ok_or_else(|| place.invalid("has no Effect"))?,
        actions: actions.ok_or_else(|| place.invalid("has neither Action nor NotAction"))?,
        resources: resources
            .ok_or_else(|| place.invalid("has neither Resource nor NotResource"))?,
        conditions,
    })
}

fn selection(
    json: &Json,
    place: &Place,
    negated: bool,
    read: impl Fn(&str, &Place) -> Parsed<Pattern>,
) -> Parsed<Selection> {
    let texts = texts(json, place)?;
    let patterns = texts.iter().map(|(text, place)| read(text, place));
    Ok(Selection {
        negated,
        patterns: patterns.collect::<Result<_, _>>()?,
    })
}

fn action(text: &str, place: &Place) -> Parsed<Pattern> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_*?".contains(&byte);
    let well_formed = match text.split_once(':') {
        _ if text == "*" => true,
        Some((service, name)) => {
            let mut bytes = service.bytes().chain(name.bytes());
            !service.is_empty() && !name.is_empty() && bytes.all(allowed)
        }
        None => false,
    };
    if !well_formed {
        return Err(place.invalid("must be * or of the form service:Action, like iot:OpenTunnel"));
    }
    let syntax = Syntax {
        wildcards: true,
        variables: false,
    };
    pattern(text, syntax, place).map(Pattern::into_lowercase)
}

fn resource(text: &str, place: &Place, variables: bool) -> Parsed<Pattern> {
    if text != "*" && !text.starts_with("arn:") {
        return Err(place.invalid("must be * or begin with arn:"));
    }
    let syntax = Syntax {
        wildcards: true,
        variables,
    };
    pattern(text, syntax, place)
}

fn condition_block(json: &Json, place: &Place, variables: bool) -> Parsed<Vec<Condition>> {
    let mut conditions = Vec::new();
    for (name, keys) in object(json, place)? {
        let place = place.member(name);
        let operator = Operator::parse(name).ok_or_else(|| place.invalid(OPERATORS))?;
        for (key, values) in object(keys, &place)? {
            let place = place.member(key);
            if !key.contains(':') {
                return Err(place.invalid("a condition key is like aws:SecureTransport"));
            }
            if key.eq_ignore_ascii_case(THING_GROUPS) {
                return Err(place.invalid(NO_THING_GROUPS));
            }
            conditions.push(Condition {
                operator,
                key: key.to_ascii_lowercase(),
                values: condition_values(values, &place, operator, variables)?,
            });
        }
    }
    Ok(conditions)
}

fn condition_values(
    json: &Json,
    place: &Place,
    operator: Operator,
    variables: bool,
) -> Parsed<Vec<Pattern>> {
    let texts = texts(json, place)?;
    let read = |(text, place): &(String, Place)| {
        let boolean = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
        if operator.is_boolean() && !boolean {
            return Err(place.invalid("must be true or false"));
        }
        let pattern = pattern(text, operator.syntax(variables), place)?;
        Ok(match operator.ignores_case() {
            true => pattern.into_lowercase(),
            false => pattern,
        })
    };
    texts.iter().map(read).collect()
}

fn pattern(text: &str, syntax: Syntax, place: &Place) -> Parsed<Pattern> {
    Pattern::parse(text, syntax).map_err(|_| {
        place.invalid(
            "${ must begin a variable like ${aws:username}, without a default; write ${$}{ for the \
             characters",
        )
    })
}

fn object<'a>(json: &'a Json, place: &Place) -> Parsed<&'a [(String, Json)]> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(place.invalid("must be an object")),
    }
}

fn text<'a>(json: &'a Json, place: &Place) -> Parsed<&'a str> {
    match json {
        Json::Text(text) => Ok(text),
        _ => Err(place.invalid("must be a text")),
    }
}

/// One value is as good as a list of one.
fn list(json: &Json) -> &[Json] {
    match json {
        Json::List(list) => list,
        one => std::slice::from_ref(one),
    }
}

fn texts(json: &Json, place: &Place) -> Parsed<Vec<(String, Place)>> {
    let is_list = matches!(json, Json::List(_));
    let read = |(index, json): (usize, &Json)| {
        let place = if is_list {
            place.element(index)
        } else {
            place.clone()
        };
        let text = match json {
            Json::Text(text) => text.clone(),
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => number.clone(),
            Json::Null | Json::List(_) | Json::Object(_) => {
                return Err(place.invalid("must be a text"));
            }
        };
        Ok((text, place))
    };
    let texts: Vec<_> = list(json)
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<_, _>>()?;
    if texts.is_empty() {
        return Err(place.invalid("must not be empty"));
    }
    Ok(texts)
}

/// Where in a document.
#[derive(Clone, Debug)]
pub(super) struct Place(String);

impl Place {
    /// The document itself.
    pub(super) fn top() -> Self {
        Self(String::new())
    }

    fn member(&self, name: &str) -> Self {
        // Names are the author's: bounded, and without what a terminal would obey.
        let name: String = name.chars().take(64).collect();
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{}", self.0, Escaped(&name)))
    }

    fn element(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    fn unknown(&self, known: &str) -> InvalidPolicy {
        self.invalid(format!("is not known here; known are {known}"))
    }

    fn invalid(&self, problem: impl fmt::Display) -> InvalidPolicy {
        let place = match self.0.as_str() {
            "" => "the policy document",
            place => place,
        };
        InvalidPolicy {
            place: place.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// There are no thing groups, so it never has a value. Taken for absent, it would make a statement that
/// denies do nothing, and `ForAllValues:` allow every thing.
const THING_GROUPS: &str = "iot:ThingGroupArn";
const NO_THING_GROUPS: &str =
    "is not supported, as there are no thing groups; name the things in Resource instead";
const OPERATORS: &str = "is no operator known here; known are StringEquals, StringNotEquals, \
     StringEqualsIgnoreCase, StringNotEqualsIgnoreCase, StringLike, StringNotLike, ArnEquals, \
     ArnNotEquals, ArnLike, ArnNotLike, Bool, Null, with ForAnyValue: or ForAllValues: in front and \
     IfExists behind";
