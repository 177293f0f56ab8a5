//! Things.

use serde::Serialize;
use uuid::Uuid;

use super::constraints::{ATTRIBUTE_NAME, ATTRIBUTE_VALUE, THING_NAME, THING_TYPE_NAME, VERSION};
use super::error::invalid;
use super::paging::{self, BY_TOKEN};
use super::{Answer, Iot, authorize, empty, everything, read};
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::input::Input;
use crate::api::outcome::Outcome;
use crate::registry::{
    AttributeChange, AttributeFilter, Attributes, NewThing, Registry, Thing, ThingQuery,
    ThingUpdate, TypeChange,
};
use crate::tunnels::ThingName;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateOutput<'a> {
    thing_name: &'a str,
    thing_arn: String,
    thing_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribeOutput<'a> {
    default_client_id: &'a str,
    thing_id: String,
    #[serde(flatten)]
    thing: ThingOutput<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListOutput<'a> {
    things: Vec<ThingOutput<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingOutput<'a> {
    thing_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_type_name: Option<&'a str>,
    thing_arn: String,
    attributes: &'a Attributes,
    version: u64,
}

impl<R: Registry> Iot<R> {
    pub(super) async fn create_thing(&self, call: &Call, name: &str) -> Answer {
        let name = read::thing_name(name)?;
        let body = call.json()?;
        let input = Input::new(&body);
        if input.text("billingGroupName", &THING_NAME)?.is_some() {
            return Err(invalid("this service has no billing groups"));
        }
        let payload = AttributePayload::read(&input)?;
        let new = NewThing {
            name,
            id: Uuid::new_v4(),
            type_name: type_name(&input)?,
            attributes: payload.and_then(|p| p.attributes).unwrap_or_default(),
        };
        authorize(call, "iot:CreateThing", [self.thing_arn(&new.name)])?;
        let thing = self.registry.create_thing(new).await?;
        Ok(Outcome::json(&CreateOutput {
            thing_name: thing.name.as_str(),
            thing_arn: self.thing_arn(&thing.name),
            thing_id: thing.id.to_string(),
        }))
    }

    pub(super) async fn describe_thing(&self, call: &Call, name: &str) -> Answer {
        let name = read::thing_name(name)?;
        authorize(call, "iot:DescribeThing", [self.thing_arn(&name)])?;
        let thing = self.registry.thing(&name).await?;
        Ok(Outcome::json(&DescribeOutput {
            default_client_id: thing.name.as_str(),
            thing_id: thing.id.to_string(),
            thing: self.thing_output(&thing),
        }))
    }

    pub(super) async fn list_things(&self, call: &Call) -> Answer {
        let type_name = read::text(call, "thingTypeName", THING_TYPE_NAME)?;
        let attribute = read::text(call, "attributeName", &ATTRIBUTE_NAME)?;
        let value = read::text(call, "attributeValue", &ATTRIBUTE_VALUE)?;
        let prefix = read::flag(call, "usePrefixAttributeValue")?;
        if value.is_some() && attribute.is_none() {
            return Err(invalid("attributeValue needs an attributeName"));
        }
        let query = ThingQuery {
            type_name: type_name.and_then(ThingName::new),
            attribute: attribute.map(|name| AttributeFilter {
                name: name.to_owned(),
                value: value.map(str::to_owned),
                prefix,
            }),
            after: BY_TOKEN.after(call)?,
            count: BY_TOKEN.count(call)?,
        };
        authorize(call, "iot:ListThings", everything())?;
        let page = self.registry.list_things(query).await?;
        let things = page.things.iter();
        Ok(Outcome::json(&ListOutput {
            things: things.map(|thing| self.thing_output(thing)).collect(),
            next_token: paging::next(true, page.next),
        }))
    }

    pub(super) async fn update_thing(&self, call: &Call, name: &str) -> Answer {
        let name = read::thing_name(name)?;
        let body = call.json()?;
        let input = Input::new(&body);
        let remove = input.boolean("removeThingType")?.unwrap_or(false);
        let update = ThingUpdate {
            attributes: AttributePayload::read(&input)?.and_then(AttributePayload::change),
            type_name: match (type_name(&input)?, remove) {
                (None, false) => TypeChange::Keep,
                (Some(name), false) => TypeChange::Set(name),
                (None, true) => TypeChange::Remove,
                (Some(_), true) => {
                    return Err(invalid(
                        "thingTypeName and removeThingType exclude each other",
                    ));
                }
            },
            expected_version: input
                .integer("expectedVersion", &VERSION)?
                .and_then(expected_version),
        };
        authorize(call, "iot:UpdateThing", [self.thing_arn(&name)])?;
        self.registry.update_thing(&name, update).await?;
        empty()
    }

    pub(super) async fn delete_thing(&self, call: &Call, name: &str) -> Answer {
        let name = read::thing_name(name)?;
        let expected = read::integer(call, "expectedVersion", &VERSION)?;
        let expected = expected.and_then(expected_version);
        authorize(call, "iot:DeleteThing", [self.thing_arn(&name)])?;
        self.registry.delete_thing(&name, expected).await?;
        empty()
    }

    fn thing_output<'a>(&self, thing: &'a Thing) -> ThingOutput<'a> {
        ThingOutput {
            thing_name: thing.name.as_str(),
            thing_type_name: thing.type_name.as_ref().map(ThingName::as_str),
            thing_arn: self.thing_arn(&thing.name),
            attributes: &thing.attributes,
            version: thing.version,
        }
    }
}

struct AttributePayload {
    attributes: Option<Attributes>,
    merge: bool,
}

impl AttributePayload {
    fn read(input: &Input<'_>) -> Result<Option<Self>, ApiError> {
        let Some(payload) = input.structure("attributePayload")? else {
            return Ok(None);
        };
        let attributes = payload.structure("attributes")?;
        let attributes = attributes
            .map(|attributes| attributes.texts(&ATTRIBUTE_NAME, &ATTRIBUTE_VALUE))
            .transpose()?;
        Ok(Some(Self {
            attributes,
            merge: payload.boolean("merge")?.unwrap_or(false),
        }))
    }

    /// A payload without attributes changes none; an empty set of them replaces all.
    fn change(self) -> Option<AttributeChange> {
        self.attributes.map(|attributes| match self.merge {
            true => AttributeChange::Merge(attributes),
            false => AttributeChange::Replace(attributes),
        })
    }
}

fn type_name(input: &Input<'_>) -> Result<Option<ThingName>, ApiError> {
    let name = input.text("thingTypeName", THING_TYPE_NAME)?;
    Ok(name.and_then(ThingName::new))
}

fn expected_version(version: i64) -> Option<u64> {
    u64::try_from(version).ok()
}
