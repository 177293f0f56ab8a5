//! The operators of conditions.

use super::conditions::Conditions;
use super::pattern::{Pattern, Syntax};

/// One key of one operator, with all its values: holds when one of the values fits.
///
/// | operator | and | without the key |
/// | --- | --- | --- |
/// | `StringEquals`, `StringLike`, `ArnEquals`, `ArnLike` | `…NotEquals`, `…NotLike` | no; the negated: yes |
/// | `StringEqualsIgnoreCase` | `StringNotEqualsIgnoreCase` | no; yes |
/// | `Bool` | | no |
/// | `Null` | | that is what it asks |
///
/// `…IfExists` behind any but `Null` makes it yes. `ForAnyValue:` in front holds when one of the
/// request's values fits (no value: no), `ForAllValues:` when each does (no value: yes). Without them,
/// several values of one key count as if any of them had been the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    /// In lower case.
    pub(super) key: String,
    pub(super) values: Vec<Pattern>,
}

/// An operator with what stands before and behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    set: Option<Set>,
    kind: Kind,
    negated: bool,
    if_exists: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    AnyValue,
    AllValues,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Equals,
    EqualsIgnoreCase,
    Like,
    Bool,
    Null,
}

impl Operator {
    /// From its name, like `ForAnyValue:StringLikeIfExists`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (set, rest) = match name.split_once(':') {
            Some(("ForAnyValue", rest)) => (Some(Set::AnyValue), rest),
            Some(("ForAllValues", rest)) => (Some(Set::AllValues), rest),
            Some(_) => return None,
            None => (None, name),
        };
        let (rest, if_exists) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (kind, negated) = match rest {
            "StringEquals" => (Kind::Equals, false),
            "StringNotEquals" => (Kind::Equals, true),
            "StringEqualsIgnoreCase" => (Kind::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Kind::EqualsIgnoreCase, true),
            // AWS lets both forms have wildcards for ARNs.
            "StringLike" | "ArnLike" | "ArnEquals" => (Kind::Like, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (Kind::Like, true),
            "Bool" => (Kind::Bool, false),
            "Null" if set.is_none() && !if_exists => (Kind::Null, false),
            _ => return None,
        };
        Some(Self {
            set,
            kind,
            negated,
            if_exists,
        })
    }

    /// How its values are read.
    pub(super) fn syntax(self, variables: bool) -> Syntax {
        Syntax {
            wildcards: self.kind == Kind::Like,
            variables,
        }
    }

    /// Whether its values can only be `true` and `false`.
    pub(super) fn is_boolean(self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Null)
    }

    /// Whether case does not matter, so that its values have to be in lower case.
    pub(super) fn ignores_case(self) -> bool {
        matches!(self.kind, Kind::EqualsIgnoreCase | Kind::Bool | Kind::Null)
    }
}

impl Condition {
    pub(super) fn holds(&self, conditions: &Conditions) -> bool {
        let Operator {
            set,
            kind,
            negated,
            if_exists,
        } = self.operator;
        let sent = conditions.values(&self.key);
        if kind == Kind::Null {
            let absent = if sent.is_empty() { "true" } else { "false" };
            return self.has(absent, conditions);
        }
        if sent.is_empty() && if_exists {
            return true;
        }
        let fits = |value: &String| self.has(value, conditions) != negated;
        match set {
            Some(Set::AnyValue) => sent.iter().any(fits),
            Some(Set::AllValues) => sent.iter().all(fits),
            None => sent.iter().any(|value| self.has(value, conditions)) != negated,
        }
    }

    pub(super) fn asks_for(&self, prefix: &str) -> bool {
        let mut variables = self.values.iter().flat_map(Pattern::variables);
        self.key.starts_with(prefix) || variables.any(|key| key.starts_with(prefix))
    }

    fn has(&self, value: &str, conditions: &Conditions) -> bool {
        let lower;
        let value = if self.operator.ignores_case() {
            lower = value.to_ascii_lowercase();
            &lower
        } else {
            value
        };
        self.values.iter().any(|p| p.matches(value, conditions))
    }
}
