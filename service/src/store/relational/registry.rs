//! The registry in tables. Whatever changes it holds one lock: operators and their scripts write it, a
//! few hundred times a second at most, and so every bound and every attachment is decided alone.

use std::num::NonZeroUsize;
use std::sync::Arc;

use uuid::Uuid;

use super::{Failure, News, Row, Sql, Trouble, Value, count, counted, first, mailbox};
use crate::clock::Timestamp;
use crate::registry::rules::{self, Creation};
use crate::registry::{
    ByAge, ByKey, Certificate, CertificateId, CertificateOrigin, CertificateStatus, Change, Device,
    NewThing, Page, Policy, PolicyName, RegistryError, RegistryLimits, Thing, ThingPage,
    ThingQuery, ThingSearch, ThingUpdate,
};
use crate::tunnels::ThingName;

type Result<T, E = Failure<RegistryError>> = std::result::Result<T, E>;

/// Each column by its name: PostgreSQL refuses a prepared `*` once a newer version has added one.
macro_rules! select_certificates {
    ($rest:literal) => {
        concat!(
            "SELECT id, pem, status, origin, created_ms, updated_ms, not_before_ms, not_after_ms \
             FROM certificates ",
            $rest
        )
    };
}

macro_rules! select_policies {
    ($rest:literal) => {
        concat!(
            "SELECT name, document, version, created_ms FROM policies ",
            $rest
        )
    };
}

/// Begins whatever changes the registry.
async fn begin(db: &impl Sql) -> Result<()> {
    Ok(db.lock("registry").await?)
}

pub(in crate::store) async fn create_thing(
    db: &impl Sql,
    limits: &RegistryLimits,
    new: NewThing,
) -> Result<Thing> {
    begin(db).await?;
    let existing = find_thing(db, &new.name).await?;
    let things = counted(db, THINGS).await?;
    let creation = rules::create_thing(existing.as_ref(), things, new, limits);
    match creation.map_err(Failure::Refused)? {
        Creation::Present(thing) => Ok(thing),
        Creation::Add(thing) => {
            db.execute(ADD_THING, &thing_values(&thing)?).await?;
            count(db, THINGS, 1).await?;
            Ok(thing)
        }
    }
}

pub(in crate::store) async fn thing(db: &impl Sql, name: &ThingName) -> Result<Thing> {
    let found = find_thing(db, name).await?;
    found.ok_or_else(|| Failure::Refused(RegistryError::ThingNotFound(name.clone())))
}

pub(in crate::store) async fn thing_exists(db: &impl Sql, name: &ThingName) -> Result<bool> {
    let found = first(db, THING_EXISTS, &[name.as_str().into()]).await?;
    Ok(found.is_some())
}

pub(in crate::store) async fn list_things(db: &impl Sql, query: &ThingQuery) -> Result<ThingPage> {
    let wanted = query.count.get() + 1;
    let batch = if query.attribute.is_some() || query.type_name.is_some() {
        wanted.max(BATCH)
    } else {
        wanted
    };
    let mut after = query
        .after
        .as_ref()
        .map_or("", ThingName::as_str)
        .to_owned();
    let mut search = ThingSearch::new(query);
    loop {
        let values = [after.as_str().into(), batch.into()];
        let rows = db.query(LIST_THINGS, &values).await?;
        for row in &rows {
            if !search.look(thing_of(row)?) {
                return Ok(search.page());
            }
        }
        match rows.last() {
            Some(last) if rows.len() == batch => last.text(0)?.clone_into(&mut after),
            _ => return Ok(search.page()),
        }
    }
}

pub(in crate::store) async fn update_thing(
    db: &impl Sql,
    limits: &RegistryLimits,
    name: &ThingName,
    update: &ThingUpdate,
) -> Result<()> {
    begin(db).await?;
    let next = rules::update_thing(&thing(db, name).await?, update, limits);
    let values = thing_values(&next.map_err(Failure::Refused)?)?;
    db.execute(UPDATE_THING, &values).await?;
    Ok(())
}

pub(in crate::store) async fn delete_thing(
    db: &impl Sql,
    name: &ThingName,
    expected_version: Option<u64>,
) -> Result<()> {
    begin(db).await?;
    let Some(thing) = find_thing(db, name).await? else {
        return Ok(());
    };
    let key = [name.as_str().into()];
    let certificates = number_of(db, COUNT_OF_THING, &key).await?;
    rules::delete_thing(&thing, certificates, expected_version).map_err(Failure::Refused)?;
    db.execute("DELETE FROM things WHERE name = $1", &key)
        .await?;
    count(db, THINGS, -1).await?;
    mailbox::forget(db, name).await?;
    let change = Change::ThingDeleted(name.clone());
    Ok(db.tell(News::Registry(change)).await?)
}

pub(in crate::store) async fn add_certificate(
    db: &impl Sql,
    limits: &RegistryLimits,
    new: &Certificate,
) -> Result<()> {
    begin(db).await?;
    let existing = find_certificate(db, &new.id).await?.is_some();
    let certificates = counted(db, CERTIFICATES).await?;
    rules::add_certificate(new, existing, certificates, limits).map_err(Failure::Refused)?;
    let values = [
        new.id.as_bytes().into(),
        (&*new.pem).into(),
        new.status.as_str().into(),
        new.origin.as_str().into(),
        new.created.into(),
        new.updated.into(),
        new.not_before.into(),
        new.not_after.into(),
    ];
    db.execute(ADD_CERTIFICATE, &values).await?;
    Ok(count(db, CERTIFICATES, 1).await?)
}

pub(in crate::store) async fn certificate(
    db: &impl Sql,
    id: &CertificateId,
) -> Result<Certificate> {
    let found = find_certificate(db, id).await?;
    found.ok_or(Failure::Refused(RegistryError::CertificateNotFound(*id)))
}

pub(in crate::store) async fn list_certificates(
    db: &impl Sql,
    query: &ByAge<CertificateId>,
) -> Result<Page<Certificate>> {
    let sql = match query.ascending {
        true => {
            select_certificates!(
                "WHERE (created_ms, id) > ($1, $2) ORDER BY created_ms, id LIMIT $3"
            )
        }
        false => {
            select_certificates!(
                "WHERE (created_ms, id) < ($1, $2) ORDER BY created_ms DESC, id DESC LIMIT $3"
            )
        }
    };
    let key = query.after.as_ref().map(|(_, id)| id.as_bytes().as_slice());
    let values = by_age(query, key.unwrap_or_default().into());
    let rows = db.query(sql, &values).await?;
    page(query.count, &rows, certificate_of)
}

pub(in crate::store) async fn set_certificate_status(
    db: &impl Sql,
    now: Timestamp,
    id: &CertificateId,
    status: CertificateStatus,
) -> Result<()> {
    begin(db).await?;
    if certificate(db, id).await?.status != status {
        let values = [id.as_bytes().into(), status.as_str().into(), now.into()];
        let sql = "UPDATE certificates SET status = $2, updated_ms = $3 WHERE id = $1";
        db.execute(sql, &values).await?;
    }
    changed(db, id).await
}

pub(in crate::store) async fn delete_certificate(
    db: &impl Sql,
    id: &CertificateId,
    force: bool,
) -> Result<()> {
    begin(db).await?;
    let certificate = certificate(db, id).await?;
    let key = [id.as_bytes().into()];
    let things = number_of(db, COUNT_THINGS_OF, &key).await?;
    let policies = number_of(db, COUNT_POLICIES_OF, &key).await?;
    rules::delete_certificate(&certificate, things, policies, force).map_err(Failure::Refused)?;
    let detach = "DELETE FROM certificate_policies WHERE certificate = $1";
    db.execute(detach, &key).await?;
    db.execute("DELETE FROM certificates WHERE id = $1", &key)
        .await?;
    count(db, CERTIFICATES, -1).await?;
    changed(db, id).await
}

pub(in crate::store) async fn attach_thing(
    db: &impl Sql,
    limits: &RegistryLimits,
    name: &ThingName,
    id: &CertificateId,
) -> Result<()> {
    begin(db).await?;
    thing(db, name).await?;
    certificate(db, id).await?;
    let link = [name.as_str().into(), id.as_bytes().into()];
    let attached = "SELECT 1 FROM thing_certificates WHERE thing = $1 AND certificate = $2";
    if first(db, attached, &link).await?.is_none() {
        let certificates = number_of(db, COUNT_OF_THING, &link[..1]).await?;
        let things = number_of(db, COUNT_THINGS_OF, &link[1..]).await?;
        rules::attach_thing(certificates, things, limits).map_err(Failure::Refused)?;
        let attach = "INSERT INTO thing_certificates (thing, certificate) VALUES ($1, $2)";
        db.execute(attach, &link).await?;
    }
    changed(db, id).await
}

pub(in crate::store) async fn detach_thing(
    db: &impl Sql,
    name: &ThingName,
    id: &CertificateId,
) -> Result<()> {
    begin(db).await?;
    thing(db, name).await?;
    certificate(db, id).await?;
    let detach = "DELETE FROM thing_certificates WHERE thing = $1 AND certificate = $2";
    let link = [name.as_str().into(), id.as_bytes().into()];
    db.execute(detach, &link).await?;
    changed(db, id).await
}

pub(in crate::store) async fn thing_certificates(
    db: &impl Sql,
    name: &ThingName,
    query: &ByKey<CertificateId>,
) -> Result<Page<CertificateId>> {
    thing(db, name).await?;
    let sql = "SELECT certificate FROM thing_certificates WHERE thing = $1 AND certificate > $2 \
               ORDER BY certificate LIMIT $3";
    certificates_of(db, sql, name.as_str(), query).await
}

pub(in crate::store) async fn certificate_things(
    db: &impl Sql,
    id: &CertificateId,
    query: &ByKey<ThingName>,
) -> Result<Page<ThingName>> {
    certificate(db, id).await?;
    let sql = "SELECT thing FROM thing_certificates WHERE certificate = $1 AND thing > $2 \
               ORDER BY thing LIMIT $3";
    let after = query.after.as_ref().map_or("", ThingName::as_str);
    let values = [
        id.as_bytes().into(),
        after.into(),
        (query.count.get() + 1).into(),
    ];
    let rows = db.query(sql, &values).await?;
    page(query.count, &rows, |row| thing_name(row.text(0)?))
}

pub(in crate::store) async fn create_policy(
    db: &impl Sql,
    limits: &RegistryLimits,
    new: &Policy,
) -> Result<()> {
    begin(db).await?;
    let existing = find_policy(db, &new.name).await?.is_some();
    let policies = counted(db, POLICIES).await?;
    rules::create_policy(new, existing, policies, limits).map_err(Failure::Refused)?;
    let values = [
        new.name.as_str().into(),
        (&*new.document).into(),
        new.version.into(),
        new.created.into(),
    ];
    let sql = "INSERT INTO policies (name, document, version, created_ms) VALUES ($1, $2, $3, $4)";
    db.execute(sql, &values).await?;
    Ok(count(db, POLICIES, 1).await?)
}

pub(in crate::store) async fn policy(db: &impl Sql, name: &PolicyName) -> Result<Policy> {
    let found = find_policy(db, name).await?;
    found.ok_or_else(|| Failure::Refused(RegistryError::PolicyNotFound(name.clone())))
}

pub(in crate::store) async fn list_policies(
    db: &impl Sql,
    query: &ByAge<PolicyName>,
) -> Result<Page<Policy>> {
    let sql = match query.ascending {
        true => {
            select_policies!(
                "WHERE (created_ms, name) > ($1, $2) ORDER BY created_ms, name LIMIT $3"
            )
        }
        false => {
            select_policies!(
                "WHERE (created_ms, name) < ($1, $2) ORDER BY created_ms DESC, name DESC LIMIT $3"
            )
        }
    };
    let key = query.after.as_ref().map(|(_, name)| name.as_str());
    let values = by_age(query, key.unwrap_or_default().into());
    let rows = db.query(sql, &values).await?;
    page(query.count, &rows, policy_of)
}

pub(in crate::store) async fn delete_policy(db: &impl Sql, name: &PolicyName) -> Result<()> {
    begin(db).await?;
    let policy = policy(db, name).await?;
    let key = [name.as_str().into()];
    let sql = "SELECT count(*) FROM certificate_policies WHERE policy = $1";
    let certificates = number_of(db, sql, &key).await?;
    rules::delete_policy(&policy, certificates).map_err(Failure::Refused)?;
    db.execute("DELETE FROM policies WHERE name = $1", &key)
        .await?;
    Ok(count(db, POLICIES, -1).await?)
}

pub(in crate::store) async fn attach_policy(
    db: &impl Sql,
    limits: &RegistryLimits,
    name: &PolicyName,
    id: &CertificateId,
) -> Result<()> {
    begin(db).await?;
    policy(db, name).await?;
    certificate(db, id).await?;
    let link = [name.as_str().into(), id.as_bytes().into()];
    let attached = "SELECT 1 FROM certificate_policies WHERE policy = $1 AND certificate = $2";
    if first(db, attached, &link).await?.is_none() {
        let policies = number_of(db, COUNT_POLICIES_OF, &link[1..]).await?;
        rules::attach_policy(policies, limits).map_err(Failure::Refused)?;
        let attach = "INSERT INTO certificate_policies (policy, certificate) VALUES ($1, $2)";
        db.execute(attach, &link).await?;
    }
    changed(db, id).await
}

pub(in crate::store) async fn detach_policy(
    db: &impl Sql,
    name: &PolicyName,
    id: &CertificateId,
) -> Result<()> {
    begin(db).await?;
    policy(db, name).await?;
    certificate(db, id).await?;
    let detach = "DELETE FROM certificate_policies WHERE policy = $1 AND certificate = $2";
    let link = [name.as_str().into(), id.as_bytes().into()];
    db.execute(detach, &link).await?;
    changed(db, id).await
}

pub(in crate::store) async fn certificate_policies(
    db: &impl Sql,
    id: &CertificateId,
    query: &ByKey<PolicyName>,
) -> Result<Page<PolicyName>> {
    certificate(db, id).await?;
    let sql = "SELECT policy FROM certificate_policies WHERE certificate = $1 AND policy > $2 \
               ORDER BY policy LIMIT $3";
    let after = query.after.as_ref().map_or("", PolicyName::as_str);
    let values = [
        id.as_bytes().into(),
        after.into(),
        (query.count.get() + 1).into(),
    ];
    let rows = db.query(sql, &values).await?;
    page(query.count, &rows, |row| policy_name(row.text(0)?))
}

pub(in crate::store) async fn policy_certificates(
    db: &impl Sql,
    name: &PolicyName,
    query: &ByKey<CertificateId>,
) -> Result<Page<CertificateId>> {
    policy(db, name).await?;
    let sql = "SELECT certificate FROM certificate_policies WHERE policy = $1 AND certificate > $2 \
               ORDER BY certificate LIMIT $3";
    certificates_of(db, sql, name.as_str(), query).await
}

/// One statement, so that all of it is of one moment.
pub(in crate::store) async fn device(db: &impl Sql, id: &CertificateId) -> Result<Option<Device>> {
    let rows = db.query(DEVICE, &[id.as_bytes().into()]).await?;
    let mut device = None;
    for row in &rows {
        match (row.number(0)?, &mut device) {
            (0, _) => {
                device = Some(Device {
                    status: status(row.text(1)?)?,
                    things: Vec::new(),
                    policies: Vec::new(),
                });
            }
            (1, Some(device)) => device.things.push(thing_name(row.text(1)?)?),
            (_, Some(device)) => device.policies.push(row.text(2)?.into()),
            (_, None) => return Err(Trouble::Damaged("a link leads to no certificate").into()),
        }
    }
    Ok(device)
}

async fn changed(db: &impl Sql, id: &CertificateId) -> Result<()> {
    Ok(db.tell(News::Registry(Change::Certificate(*id))).await?)
}

async fn find_thing(db: &impl Sql, name: &ThingName) -> Result<Option<Thing>> {
    let row = first(db, FIND_THING, &[name.as_str().into()]).await?;
    Ok(row.as_ref().map(thing_of).transpose()?)
}

async fn find_certificate(db: &impl Sql, id: &CertificateId) -> Result<Option<Certificate>> {
    let sql = select_certificates!("WHERE id = $1");
    let row = first(db, sql, &[id.as_bytes().into()]).await?;
    Ok(row.as_ref().map(certificate_of).transpose()?)
}

async fn find_policy(db: &impl Sql, name: &PolicyName) -> Result<Option<Policy>> {
    let sql = select_policies!("WHERE name = $1");
    let row = first(db, sql, &[name.as_str().into()]).await?;
    Ok(row.as_ref().map(policy_of).transpose()?)
}

async fn certificates_of(
    db: &impl Sql,
    sql: &'static str,
    name: &str,
    query: &ByKey<CertificateId>,
) -> Result<Page<CertificateId>> {
    let after = query.after.as_ref().map(|id| id.as_bytes().as_slice());
    let values = [
        name.into(),
        after.unwrap_or_default().into(),
        (query.count.get() + 1).into(),
    ];
    let rows = db.query(sql, &values).await?;
    page(query.count, &rows, |row| certificate_id(row.bytes(0)?))
}

async fn number_of(db: &impl Sql, sql: &'static str, values: &[Value]) -> Result<usize> {
    let number = super::scalar(db, sql, values).await?;
    Ok(usize::try_from(number).unwrap_or(0))
}

/// From where on, and one more than asked for, which tells whether there is another page.
fn by_age<K>(query: &ByAge<K>, key: Value) -> [Value; 3] {
    let end = if query.ascending { i64::MIN } else { i64::MAX };
    let time = query.after.as_ref().map(|(time, _)| Value::from(*time));
    let wanted = (query.count.get() + 1).into();
    [time.unwrap_or(end.into()), key, wanted]
}

fn page<T>(
    count: NonZeroUsize,
    rows: &[Row],
    item: impl Fn(&Row) -> Result<T, Trouble>,
) -> Result<Page<T>> {
    let items: Result<Vec<_>, _> = rows.iter().map(item).collect();
    Ok(Page::take(count, items?.into_iter()))
}

fn thing_values(thing: &Thing) -> Result<[Value; 5], Trouble> {
    let attributes = serde_json::to_string(&thing.attributes);
    let attributes = attributes.map_err(|error| Trouble::Database(error.to_string()))?;
    Ok([
        thing.name.as_str().into(),
        thing.id.to_string().as_str().into(),
        thing.type_name.as_ref().map(ThingName::as_str).into(),
        Value::Text(attributes),
        thing.version.into(),
    ])
}

fn thing_of(row: &Row) -> Result<Thing, Trouble> {
    let type_name = match row.is_null(2) {
        true => None,
        false => Some(thing_name(row.text(2)?)?),
    };
    // Not the error's own text: it may quote.
    let attributes = serde_json::from_str(row.text(3)?);
    Ok(Thing {
        name: thing_name(row.text(0)?)?,
        id: Uuid::parse_str(row.text(1)?).map_err(|_| Trouble::Damaged("an id is malformed"))?,
        type_name,
        attributes: attributes.map_err(|_| Trouble::Damaged("attributes are malformed"))?,
        version: row.unsigned(4)?,
    })
}

/// Columns in the order of [`select_certificates`].
fn certificate_of(row: &Row) -> Result<Certificate, Trouble> {
    let origin = CertificateOrigin::parse(row.text(3)?);
    Ok(Certificate {
        id: certificate_id(row.bytes(0)?)?,
        pem: Arc::from(row.text(1)?),
        status: status(row.text(2)?)?,
        origin: origin.ok_or(Trouble::Damaged("an origin is malformed"))?,
        created: row.time(4)?,
        updated: row.time(5)?,
        not_before: row.time(6)?,
        not_after: row.time(7)?,
    })
}

/// Columns in the order of [`select_policies`].
fn policy_of(row: &Row) -> Result<Policy, Trouble> {
    Ok(Policy {
        name: policy_name(row.text(0)?)?,
        document: Arc::from(row.text(1)?),
        version: row.unsigned(2)?,
        created: row.time(3)?,
    })
}

fn status(text: &str) -> Result<CertificateStatus, Trouble> {
    CertificateStatus::parse(text).ok_or(Trouble::Damaged("a status is malformed"))
}

fn thing_name(text: &str) -> Result<ThingName, Trouble> {
    ThingName::new(text).ok_or(Trouble::Damaged("a thing name is malformed"))
}

fn policy_name(text: &str) -> Result<PolicyName, Trouble> {
    PolicyName::new(text).ok_or(Trouble::Damaged("a policy name is malformed"))
}

fn certificate_id(bytes: &[u8]) -> Result<CertificateId, Trouble> {
    let bytes = bytes.try_into().map(CertificateId::from_bytes);
    bytes.map_err(|_| Trouble::Damaged("a certificate id is malformed"))
}

const THINGS: &str = "things";
const CERTIFICATES: &str = "certificates";
const POLICIES: &str = "policies";

/// Things that are looked at together where not all of them fit; some 500 bytes each.
const BATCH: usize = if cfg!(test) { 4 } else { 1_000 };

const FIND_THING: &str =
    "SELECT name, id, type_name, attributes, version FROM things WHERE name = $1";
const THING_EXISTS: &str = "SELECT name FROM things WHERE name = $1";
const LIST_THINGS: &str = "SELECT name, id, type_name, attributes, version FROM things \
                           WHERE name > $1 ORDER BY name LIMIT $2";
const ADD_THING: &str = "INSERT INTO things (name, id, type_name, attributes, version) \
                         VALUES ($1, $2, $3, $4, $5)";
const UPDATE_THING: &str =
    "UPDATE things SET id = $2, type_name = $3, attributes = $4, version = $5 WHERE name = $1";
const ADD_CERTIFICATE: &str = "INSERT INTO certificates (id, pem, status, origin, created_ms, \
                               updated_ms, not_before_ms, not_after_ms) \
                               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const COUNT_OF_THING: &str = "SELECT count(*) FROM thing_certificates WHERE thing = $1";
const COUNT_THINGS_OF: &str = "SELECT count(*) FROM thing_certificates WHERE certificate = $1";
const COUNT_POLICIES_OF: &str = "SELECT count(*) FROM certificate_policies WHERE certificate = $1";

/// The status, then things by name, then documents by the names of the policies.
const DEVICE: &str = "SELECT 0 AS kind, status AS name, '' AS document FROM certificates WHERE id = $1 \
                      UNION ALL SELECT 1, thing, '' FROM thing_certificates WHERE certificate = $1 \
                      UNION ALL SELECT 2, name, document FROM certificate_policies \
                      JOIN policies ON policies.name = policy WHERE certificate = $1 \
                      ORDER BY 1, 2";
