//! `adit thing`, verb by verb, and the directory that `create` makes.

use std::os::unix::fs::PermissionsExt;

use adit_tests::on_own_choice;
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::desk::Desk;

async fn a_thing_lives_from_create_to_delete(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let words = [
        "thing",
        "create",
        "lamp",
        "--out",
        "bundle",
        "--attribute",
        "room=hall",
        "--service",
        "SSH=22",
        "--mqtt-endpoint",
        "mqtt.example.org:8883",
    ];
    let created = desk.json(&words).await?;
    let id = created["certificateId"]
        .as_str()
        .context("an id")?
        .to_owned();
    let bundle = scenario.path("bundle");
    let mode = std::fs::metadata(bundle.join("private.key"))?
        .permissions()
        .mode()
        & 0o777;
    ensure!(mode == 0o600, "the key has mode {mode:o}");
    let ca = std::fs::read(bundle.join("ca.pem"))?;
    ensure!(ca == std::fs::read(desk.serve.ca_file())?);
    let toml = std::fs::read_to_string(bundle.join("agent.toml"))?;
    for line in [
        "thing = \"lamp\"",
        "endpoint = \"mqtt.example.org:8883\"",
        "\"SSH\" = 22",
    ] {
        ensure!(toml.contains(line), "{toml}");
    }

    // Again, as after an interruption: the same certificate, nothing beside it.
    let again = desk.json(&words).await?;
    ensure!(again["certificateId"] == id.as_str(), "{again}");
    // An interruption before the certificate had come: another for the same key.
    let key = std::fs::read(bundle.join("private.key"))?;
    std::fs::remove_file(bundle.join("certificate.pem"))?;
    let other = desk.json(&words).await?;
    ensure!(other["certificateId"] != id.as_str());
    ensure!(std::fs::read(bundle.join("private.key"))? == key);

    let shown = desk.json(&["thing", "describe", "lamp"]).await?;
    ensure!(
        shown["thing"]["attributes"] == json!({ "room": "hall" }),
        "{shown}"
    );
    let certificates = shown["certificates"].as_array().context("a list")?;
    ensure!(certificates.len() == 2 && certificates.iter().all(|one| one["status"] == "ACTIVE"));
    let table = desk.done(&["thing", "list"]).await?;
    ensure!(
        table
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("lamp ") && line.ends_with("room=hall")),
        "{table}"
    );

    desk.done(&["thing", "delete", "lamp"]).await?;
    let gone = desk.say(&["thing", "describe", "lamp"]).await?;
    ensure!(
        gone.code == Some(4) && gone.stderr.contains("adit thing list"),
        "{}",
        gone.stderr
    );
    // Its certificate went with it, so a new thing gets a new one.
    let anew = desk.json(&words).await?;
    ensure!(anew["certificateId"] != other["certificateId"]);
    Ok(())
}

/// The agent reads what was written for it.
async fn the_bundle_is_what_the_agent_takes(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    desk.done(&[
        "thing",
        "create",
        "lamp",
        "--mqtt-endpoint",
        "localhost:8883",
        "--service",
        "SSH=022",
    ])
    .await?;
    let check = desk.bare(&["agent", "--config", "lamp/agent.toml", "--check"]);
    let said = crate::desk::run(check).await?;
    ensure!(
        said.code == Some(0) && said.stdout.contains("lamp"),
        "{:?}: {}",
        said.code,
        said.stderr
    );
    Ok(())
}

async fn a_key_that_was_made_on_the_device_stays_there(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    // Some device's request; that it is another thing's bundle that made it does not matter.
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    let file = scenario.write("lamp.csr", request.pem()?)?;
    let file = file.to_str().context("UTF-8")?;
    let words = ["thing", "create", "lamp", "--csr", file];
    let first = desk.json(&words).await?;
    ensure!(!scenario.path("lamp/private.key").exists());
    ensure!(scenario.path("lamp/certificate.pem").exists());
    let again = desk.json(&words).await?;
    ensure!(first["certificateId"] == again["certificateId"]);
    Ok(())
}

/// The device made another key. The certificate of the one before would be of no use to it.
async fn a_certificate_is_not_taken_for_that_of_another_key(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let create = |csr: &'static str| ["thing", "create", "lamp", "--csr", csr];
    let said = desk.say(&create("a.csr")).await?;
    ensure!(
        said.code == Some(2)
            && said.stderr.contains("there is no")
            && said.stderr.contains("a.csr"),
        "{:?}: {}",
        said.code,
        said.stderr
    );
    let things = desk.json(&["thing", "list"]).await?;
    ensure!(things["things"] == json!([]), "{things}");
    for file in ["a.csr", "b.csr"] {
        let key = rcgen::KeyPair::generate()?;
        let request = rcgen::CertificateParams::new(Vec::new())?.serialize_request(&key)?;
        scenario.write(file, request.pem()?)?;
    }
    let first = desk.json(&create("a.csr")).await?;
    let kept = std::fs::read(scenario.path("lamp/certificate.pem"))?;
    for (file, code, problem) in [
        ("b.csr", 6, "lamp/certificate.pem is for another key than"),
        ("none.csr", 2, "there is no"),
        ("lamp/agent.toml", 2, "not a certificate signing request"),
    ] {
        let said = desk.say(&create(file)).await?;
        ensure!(
            said.code == Some(code)
                && said.stderr.contains(problem)
                && said.stderr.contains(file)
                && said.stderr.contains("hint: "),
            "{file}: {:?}: {}",
            said.code,
            said.stderr
        );
    }
    ensure!(std::fs::read(scenario.path("lamp/certificate.pem"))? == kept);
    // As the hint has it.
    std::fs::rename(
        scenario.path("lamp/certificate.pem"),
        scenario.path("old.pem"),
    )?;
    let second = desk.json(&create("b.csr")).await?;
    ensure!(second["certificateId"] != first["certificateId"]);
    let again = desk.json(&create("b.csr")).await?;
    ensure!(again["certificateId"] == second["certificateId"]);
    Ok(())
}

/// A certificate of two things outlives one of them, unless that is what is wanted.
async fn delete_spares_what_others_need(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    for thing in ["lamp", "bell"] {
        desk.done(&["thing", "create", thing, "--out", "shared"])
            .await?;
    }
    let said = desk.done(&["thing", "delete", "lamp"]).await?;
    ensure!(said.contains("detached; bell still has it"), "{said}");
    let bell = desk.json(&["thing", "describe", "bell"]).await?;
    ensure!(bell["certificates"][0]["status"] == "ACTIVE", "{bell}");
    desk.done(&["thing", "create", "lamp", "--out", "shared"])
        .await?;
    let id = bell["certificates"][0]["certificateId"].clone();
    let deleted = desk.json(&["thing", "delete", "lamp", "--force"]).await?;
    let certificate = json!({ "certificateId": id, "deleted": true, "otherThings": [] });
    let expected = json!({ "thingName": "lamp", "certificates": [certificate] });
    ensure!(deleted == expected, "{deleted}");
    let bell = desk.json(&["thing", "describe", "bell"]).await?;
    ensure!(bell["certificates"] == json!([]), "{bell}");
    Ok(())
}

on_own_choice!(
    a_thing_lives_from_create_to_delete,
    the_bundle_is_what_the_agent_takes,
    a_key_that_was_made_on_the_device_stays_there,
    a_certificate_is_not_taken_for_that_of_another_key,
    delete_spares_what_others_need,
);
