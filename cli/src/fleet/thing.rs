//! `adit thing`: create, list, describe, delete.

use adit_proto::escape::Escaped;
use serde_json::{Value, json};

use super::bundle::{AGENT, Agent, Bundle, CA, CERTIFICATE, KEY};
use super::calls::{now, seconds};
use super::files::read;
use super::registry::{Registry, certificate_id};
use super::request::Request;
use super::settings::{CreateSettings, ThingAction, ThingSettings};
use super::table::{Cell, Paper, Table, fields, print, span};
use super::trouble::Trouble;
use crate::aws::Client;
use crate::exit::ExitCode;

/// Does it, and prints the answer.
pub(crate) async fn thing(settings: ThingSettings, paper: Paper) -> Result<(), Trouble> {
    let client = Client::new(settings.api)?;
    let registry = Registry(&client);
    let show = Show {
        is_json: settings.is_json,
        paper,
    };
    match settings.action {
        ThingAction::Create(settings) => {
            let created = create(&client, &settings).await?;
            let shown = show.created(&settings, &created);
            for note in &created.notes {
                report_note(note);
            }
            shown
        }
        ThingAction::List => show.list(registry.things().await?),
        ThingAction::Describe { thing } => describe(&registry, &thing, &show).await,
        ThingAction::Delete { thing, force } => delete(&registry, &thing, force, &show).await,
    }
}

/// A thing, with its bundle on the disk.
pub(crate) struct Created {
    thing: Value,
    /// ARN of its certificate.
    certificate: String,
    /// What its reader should know.
    notes: Vec<String>,
}

/// Makes a thing with a certificate, and the bundle for its agent.
///
/// Every step finds what an earlier run has done, so that the command can be repeated whenever it was
/// interrupted.
pub(crate) async fn create(client: &Client, settings: &CreateSettings) -> Result<Created, Trouble> {
    let registry = &Registry(client);
    let thing = settings.thing.as_str();
    let request = settings.csr.as_deref().map(Request::read).transpose()?;
    let created = registry.create_thing(thing, &settings.attributes).await;
    let created = match created {
        // It is there; without wishes of our own its attributes are its own affair.
        Err(fault)
            if fault.is("ResourceAlreadyExistsException") && settings.attributes.is_empty() =>
        {
            registry.describe_thing(thing).await?
        }
        created => created?,
    };
    let bundle = Bundle::open(&settings.out)?;
    let certificate = certificate(registry, thing, request.as_ref(), &bundle).await?;
    registry.attach(thing, &certificate).await?;
    if let Some(policy) = &settings.policy {
        registry.attach_policy(policy, &certificate).await?;
    }
    Ok(Created {
        notes: fill(registry, settings, &bundle).await?,
        thing: created,
        certificate,
    })
}

/// The ARN of the bundle's certificate, which is made if there is none.
async fn certificate(
    registry: &Registry<'_>,
    thing: &str,
    request: Option<&Request>,
    bundle: &Bundle,
) -> Result<String, Trouble> {
    if let Some(id) = bundle.certificate(request)? {
        match registry.describe_certificate(&id).await {
            Ok(output) => return usable(&output["certificateDescription"], bundle),
            // Deleted since: another for the same key takes its place.
            Err(fault) if fault.is_not_found() => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    let output = match request {
        None => registry.sign_request(&bundle.request(thing)?).await?,
        Some(request) => registry.sign_request(request.pem()).await?,
    };
    let member = |name: &str| {
        let text = output[name].as_str();
        text.ok_or_else(|| Trouble::answer("CreateCertificateFromCsr", name))
    };
    bundle.keep_certificate(member("certificatePem")?)?;
    Ok(member("certificateArn")?.to_owned())
}

fn usable(certificate: &Value, bundle: &Bundle) -> Result<String, Trouble> {
    let arn = certificate["certificateArn"].as_str();
    let arn = arn.ok_or_else(|| Trouble::answer("DescribeCertificate", "certificateArn"))?;
    let status = certificate["status"].as_str().unwrap_or_default();
    if status == "ACTIVE" {
        return Ok(arn.to_owned());
    }
    let file = bundle.path(CERTIFICATE);
    Err(Trouble::new(
        format_args!(
            "{} is {}: somebody has taken it out of use",
            Escaped(&file.to_string_lossy()),
            Escaped(&status.to_ascii_lowercase())
        ),
        "remove the file to get another certificate, or set this one ACTIVE with `aws iot update-certificate`",
        ExitCode::Refused,
    ))
}

/// Writes the rest of the bundle. The answer is what its reader should know.
async fn fill(
    registry: &Registry<'_>,
    settings: &CreateSettings,
    bundle: &Bundle,
) -> Result<Vec<String>, Trouble> {
    let api = registry.0.settings();
    let ca = match &api.ca {
        Some(path) => read(path)?,
        None => None,
    };
    if let Some(pem) = &ca {
        bundle.keep_ca(pem)?;
    }
    let mut notes = Vec::new();
    let endpoint = match settings.mqtt_endpoint.clone().or_else(|| api.mqtt.clone()) {
        Some(endpoint) => Some(endpoint),
        None => match registry.data_endpoint().await {
            Ok(endpoint) => Some(endpoint),
            Err(trouble) => {
                notes.push(format!(
                    "where devices hear of tunnels is not known ({trouble}): fill `endpoint` in"
                ));
                None
            }
        },
    };
    let is_aws = api.carries_at_aws();
    let tunnel = api
        .tunnel
        .as_ref()
        .filter(|_| !is_aws)
        .map(ToString::to_string);
    if tunnel.is_none() && !is_aws {
        notes.push("where tunnels are carried is not known: fill `tunnel_endpoint` in, or give --tunnel-endpoint".to_owned());
    }
    let is_local = |address: &Option<String>| {
        address
            .as_ref()
            .is_some_and(|address| address.starts_with("localhost"))
    };
    if is_local(&endpoint) || is_local(&tunnel) {
        notes.push(
            "localhost leads here from this machine only: for another one give --mqtt-endpoint and \
             --tunnel-endpoint, or edit the file"
                .to_owned(),
        );
    }
    let agent = Agent {
        thing: &settings.thing,
        endpoint: endpoint.as_deref(),
        tunnel_endpoint: tunnel.as_deref(),
        is_tunnel_endpoint_known: is_aws,
        has_ca: ca.is_some(),
        has_own_key: settings.csr.is_some(),
        services: &settings.services,
    };
    if !bundle.keep_agent(&agent)? {
        notes = vec![format!("{AGENT} was there and is left as it was")];
    }
    Ok(notes)
}

async fn describe(registry: &Registry<'_>, name: &str, show: &Show) -> Result<(), Trouble> {
    let thing = registry.describe_thing(name).await?;
    let mut certificates = Vec::new();
    for arn in registry.principals(name).await? {
        let Some(id) = certificate_id(&arn) else {
            continue;
        };
        let mut output = registry.describe_certificate(id).await?;
        certificates.push(output["certificateDescription"].take());
    }
    show.thing(&thing, certificates)
}

/// Takes the thing's certificates out of use first: the device hears of no tunnel any more, whatever happens
/// then. Tunnels that it is in go on: they are its tokens' affair.
async fn delete(
    registry: &Registry<'_>,
    name: &str,
    force: bool,
    show: &Show,
) -> Result<(), Trouble> {
    registry.describe_thing(name).await?;
    let principals = registry.principals(name).await?;
    if !force {
        refuse_policies(registry, &principals).await?;
    }
    let mut certificates = Vec::new();
    let mut outcome = Ok(());
    for arn in &principals {
        let Some(removed) = remove(registry, name, arn, force).await? else {
            continue;
        };
        if !show.is_json {
            // What is begun is finished, whoever reads of it.
            outcome = outcome.and(print(&removed.line()));
        }
        certificates.push(removed.json());
    }
    registry.delete_thing(name).await?;
    outcome.and(show.deleted(name, certificates))
}

/// Before anything is changed.
async fn refuse_policies(registry: &Registry<'_>, principals: &[String]) -> Result<(), Trouble> {
    for arn in principals {
        let policies = registry.attached_policies(arn).await?;
        if !policies.is_empty() && certificate_id(arn).is_some() {
            return Err(Trouble::new(
                format_args!(
                    "{} has policies of its own: {}",
                    Escaped(arn),
                    Escaped(&policies.join(", "))
                ),
                "--force detaches them; the policies themselves stay",
                ExitCode::Refused,
            ));
        }
    }
    Ok(())
}

/// What has become of a certificate of a thing that is deleted.
struct Removed {
    id: String,
    /// Things that still have it, where it was only detached.
    others: Vec<String>,
}

impl Removed {
    fn line(&self) -> String {
        if self.others.is_empty() {
            return format!("certificate {} deleted\n", self.id);
        }
        let others = self.others.join(", ");
        format!(
            "certificate {} detached; {} still has it\n",
            self.id,
            Escaped(&others)
        )
    }

    fn json(&self) -> Value {
        json!({
            "certificateId": self.id,
            "deleted": self.others.is_empty(),
            "otherThings": self.others,
        })
    }
}

/// `None` for a principal that is no certificate, which is detached.
async fn remove(
    registry: &Registry<'_>,
    name: &str,
    arn: &str,
    force: bool,
) -> Result<Option<Removed>, Trouble> {
    let Some(id) = certificate_id(arn) else {
        registry.detach(name, arn).await?;
        return Ok(None);
    };
    let removed = |others| {
        let id = id.to_owned();
        Ok(Some(Removed { id, others }))
    };
    let mut others = registry.principal_things(arn).await?;
    others.retain(|other| other != name);
    if !others.is_empty() && !force {
        registry.detach(name, arn).await?;
        return removed(others);
    }
    registry.deactivate(id).await?;
    if force {
        for policy in registry.attached_policies(arn).await? {
            registry.detach_policy(&policy, arn).await?;
        }
    }
    for thing in others.iter().map(String::as_str).chain([name]) {
        registry.detach(thing, arn).await?;
    }
    registry.delete_certificate(id, force).await?;
    removed(Vec::new())
}

fn report_note(note: &str) {
    Trouble::note(note).tell();
}

struct Show {
    is_json: bool,
    paper: Paper,
}

impl Show {
    fn created(&self, settings: &CreateSettings, created: &Created) -> Result<(), Trouble> {
        let (thing, certificate) = (&created.thing, &created.certificate);
        let dir = settings.out.to_string_lossy();
        let id = certificate_id(certificate).unwrap_or_default();
        if self.is_json {
            let value = json!({
                "thingName": settings.thing,
                "thingArn": thing["thingArn"],
                "certificateId": id,
                "certificateArn": certificate,
                "directory": dir,
            });
            return print(&format!("{value:#}\n"));
        }
        let key = if settings.csr.is_some() { "" } else { KEY };
        let files: Vec<&str> = [CERTIFICATE, key, CA, AGENT]
            .into_iter()
            .filter(|name| !name.is_empty() && settings.out.join(name).exists())
            .collect();
        let lines = [
            ("thing", Cell::new(&settings.thing)),
            ("certificate", Cell::new(id)),
            ("directory", Cell::new(&dir)),
            ("files", Cell::new(&files.join(", "))),
            (
                "next",
                Cell::new(
                    "copy the directory to the device; there: adit agent --config agent.toml",
                ),
            ),
        ];
        print(&fields(&lines, self.paper))
    }

    fn deleted(&self, name: &str, certificates: Vec<Value>) -> Result<(), Trouble> {
        if self.is_json {
            let value = json!({ "thingName": name, "certificates": certificates });
            return print(&format!("{value:#}\n"));
        }
        print(&format!("{name} deleted\n"))
    }

    fn list(&self, things: Vec<Value>) -> Result<(), Trouble> {
        if self.is_json {
            return print(&format!("{:#}\n", json!({ "things": things })));
        }
        let mut table = Table::new(&["THING", "TYPE", "ATTRIBUTES"]);
        for thing in &things {
            let text = |member: &str| thing[member].as_str().unwrap_or_default();
            table.row(vec![
                Cell::new(text("thingName")),
                Cell::new(text("thingTypeName")),
                Cell::new(&attributes(&thing["attributes"])),
            ]);
        }
        print(&table.render(self.paper))
    }

    fn thing(&self, thing: &Value, certificates: Vec<Value>) -> Result<(), Trouble> {
        if self.is_json {
            let value = json!({ "thing": thing, "certificates": certificates });
            return print(&format!("{value:#}\n"));
        }
        let text = |member: &str| Cell::new(thing[member].as_str().unwrap_or_default());
        let mut lines = vec![("thing", text("thingName")), ("id", text("thingId"))];
        if thing["thingTypeName"].is_string() {
            lines.push(("type", text("thingTypeName")));
        }
        let attributes = attributes(&thing["attributes"]);
        if !attributes.is_empty() {
            lines.push(("attributes", Cell::new(&attributes)));
        }
        lines.push(("arn", text("thingArn")));
        print(&fields(&lines, self.paper))?;
        if certificates.is_empty() {
            return print("it has no certificate, so no device can connect as it\n");
        }
        let mut table = Table::new(&["CERTIFICATE", "STATUS", "AGE"]);
        for certificate in &certificates {
            let text = |member: &str| certificate[member].as_str().unwrap_or_default();
            let age = seconds(&certificate["creationDate"]).map(|made| span(now() - made));
            table.row(vec![
                Cell::new(text("certificateId")),
                Cell::state(text("status")),
                Cell::new(&age.unwrap_or_default()),
            ]);
        }
        print(&format!("\n{}", table.render(self.paper)))
    }
}

fn attributes(attributes: &Value) -> String {
    let pairs = attributes.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(" ")
}
