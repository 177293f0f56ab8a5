//! Policies: documents in the grammar of AWS that say who may do what (control-plane specification,
//! sections 11 and 14.3).
//!
//! Nothing is allowed unless a statement allows it, and a statement that denies wins over all that
//! allow. What this engine does not know (an element, an operator, a version) makes a document invalid;
//! nothing is passed over in silence.
//!
//! | element | known |
//! | --- | --- |
//! | top | `Version` (`2012-10-17`, or `2008-10-17`, without variables), `Id`, `Statement` |
//! | statement | `Sid`, `Effect`, `Action` or `NotAction`, `Resource` or `NotResource`, `Condition` |
//! | wildcards | `*` and `?` in actions and resources, and in the values of the `…Like` operators |
//! | variables | `${key}` in resources and values; `${*}`, `${?}`, `${$}` for the characters themselves |
//! | operators | see [`Condition`](condition::Condition) |
//! | condition keys | any but `iot:ThingGroupArn`; one that no request has is absent, as AWS has it |

mod condition;
mod conditions;
mod document;
mod fuzzing;
mod json;
mod pattern;

use condition::Condition;
use pattern::Pattern;

pub(super) use json::Json;

pub use conditions::Conditions;
pub use document::{DOCUMENT_SIZE_MAX, InvalidPolicy};
pub use fuzzing::fuzz_policy;

/// What a caller or a device may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// What a policy says about one action on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it, none denies it.
    Allowed,
    /// A statement denies it.
    Denied,
    /// No statement speaks of it, which is a no as well.
    NotAllowed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    effect: Effect,
    actions: Selection,
    resources: Selection,
    /// All have to hold.
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selection {
    negated: bool,
    patterns: Vec<Pattern>,
}

impl Policy {
    /// Reads a document: JSON, at most [`DOCUMENT_SIZE_MAX`] bytes.
    ///
    /// # Errors
    /// Names the place in the document and what is wrong there.
    pub fn parse(document: &str) -> Result<Self, InvalidPolicy> {
        document::parse(document)
    }

    /// A policy that stands inside a larger document.
    pub(super) fn from_json(json: &Json) -> Result<Self, InvalidPolicy> {
        document::parse_json(json, document::Place::top())
    }

    /// Allows every action on every resource.
    pub fn allow_everything() -> Self {
        let everything = || Selection {
            negated: false,
            patterns: vec![Pattern::everything()],
        };
        Self {
            statements: vec![Statement {
                effect: Effect::Allow,
                actions: everything(),
                resources: everything(),
                conditions: Vec::new(),
            }],
        }
    }

    /// All that these policies say together; of none, nothing is allowed.
    pub fn union<'a>(policies: impl IntoIterator<Item = &'a Self>) -> Self {
        let statements = policies.into_iter().flat_map(|p| p.statements.clone());
        Self {
            statements: statements.collect(),
        }
    }

    /// Decides on one action on one resource, in the circumstances of one request. Actions are compared
    /// without regard to case, resources with it.
    ///
    /// Takes time proportional to the size of the document times that of the texts, at worst.
    pub fn decide(&self, action: &str, resource: &str, conditions: &Conditions) -> Decision {
        let action = action.to_ascii_lowercase();
        let mut decision = Decision::NotAllowed;
        for statement in &self.statements {
            if !statement.applies(&action, resource, conditions) {
                continue;
            }
            match statement.effect {
                Effect::Allow => decision = Decision::Allowed,
                Effect::Deny => return Decision::Denied,
            }
        }
        decision
    }

    /// Whether [`decide`](Self::decide) gives [`Decision::Allowed`].
    pub fn allows(&self, action: &str, resource: &str, conditions: &Conditions) -> bool {
        self.decide(action, resource, conditions) == Decision::Allowed
    }

    /// Whether a condition or a variable asks for a key that begins so, like `aws:ResourceTag/`. When
    /// none does, nobody has to look up its value.
    pub fn asks_for(&self, prefix: &str) -> bool {
        let prefix = prefix.to_ascii_lowercase();
        self.statements.iter().any(|statement| {
            let resources = statement.resources.patterns.iter();
            resources
                .flat_map(Pattern::variables)
                .any(|key| key.starts_with(&prefix))
                || statement.conditions.iter().any(|c| c.asks_for(&prefix))
        })
    }
}

impl Statement {
    /// `action` is in lower case.
    fn applies(&self, action: &str, resource: &str, conditions: &Conditions) -> bool {
        self.actions.has(action, conditions)
            && self.resources.has(resource, conditions)
            && self.conditions.iter().all(|c| c.holds(conditions))
    }
}

impl Selection {
    fn has(&self, text: &str, conditions: &Conditions) -> bool {
        let found = self.patterns.iter().any(|p| p.matches(text, conditions));
        found != self.negated
    }
}

#[cfg(test)]
mod tests;
