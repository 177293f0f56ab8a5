//! Real clients over TLS: `clients.md`, section 5. Skipped with a notice where Debian's
//! `mosquitto-clients` is not installed, unless `ADIT_REQUIRE_PROGRAMS=1` says that it must be.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::*;
use crate::certificates::Certificates;
use crate::listen::{DeviceDoor, device_config};

struct Site {
    lab: Lab,
    files: TempDir,
    address: SocketAddr,
}

impl Site {
    /// A broker on a port of its own, with certificates for these things and for a stranger.
    async fn new(names: &[&str]) -> Option<Self> {
        if Command::new("mosquitto_sub")
            .arg("--help")
            .output()
            .await
            .is_err()
        {
            let must = std::env::var("ADIT_REQUIRE_PROGRAMS").is_ok_and(|value| value == "1");
            assert!(!must, "mosquitto_sub is not installed");
            eprintln!("skipped: mosquitto_sub is not installed");
            return None;
        }
        let lab = Lab::new();
        let files = tempfile::tempdir().unwrap();
        let server = [ServerName::try_from("localhost").unwrap()];
        let now = crate::clock::Clock::system().now().wall.to_date_time();
        let certificates = Certificates::in_memory(&server, now).unwrap();
        std::fs::write(files.path().join("ca.pem"), certificates.ca_pem()).unwrap();
        for name in names.iter().chain(&["stranger"]) {
            let id = write_certificate(files.path(), name);
            if *name != "stranger" {
                lab.device_with(name, id).await;
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = DeviceDoor {
            tls: Arc::new(
                device_config(certificates.identity(), Broker::look_up(&lab.broker)).unwrap(),
            ),
            broker: lab.broker.clone(),
        };
        tokio::spawn(door.serve_port(listener, lab.stop.subscribe()));
        Some(Self {
            lab,
            files,
            address,
        })
    }

    fn command(&self, program: &str, certificate: Option<&str>, more: &[&str]) -> Command {
        let file = |name: String| self.files.path().join(name);
        let mut command = Command::new(program);
        command
            .args([
                "-h",
                "localhost",
                "-p",
                &self.address.port().to_string(),
                "-q",
                "1",
            ])
            .arg("--cafile")
            .arg(file("ca.pem".to_owned()))
            .args(more)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(name) = certificate {
            command.arg("--cert").arg(file(format!("{name}.pem")));
            command.arg("--key").arg(file(format!("{name}.key")));
        }
        command
    }

    /// Starts a subscriber that takes one message.
    fn subscriber(&self, certificate: Option<&str>, id: &str, topic: &str, more: &[&str]) -> Child {
        let arguments = [&["-i", id, "-t", topic, "-C", "1", "-W", "10"], more].concat();
        self.command("mosquitto_sub", certificate, &arguments)
            .spawn()
            .unwrap()
    }
}

fn write_certificate(dir: &Path, name: &str) -> CertificateId {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    std::fs::write(
        dir.join(format!("{name}.key")),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    CertificateId::of(made.cert.der())
}

async fn end(child: Child) -> Output {
    child.wait_with_output().await.unwrap()
}

/// Publishes until the subscriber has had its message.
async fn deliver_to(site: &Site, child: Child, name: &str) -> Output {
    let ended = end(child);
    tokio::pin!(ended);
    loop {
        site.lab.publish(name, "t", "secret").await;
        tokio::select! {
            output = &mut ended => return output,
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}

#[tokio::test]
async fn mosquitto_sub_gets_its_notification_in_both_versions_with_and_without_alpn() {
    let Some(site) = Site::new(&["thing1"]).await else {
        return;
    };
    for more in [
        &["-V", "mqttv311"][..],
        &["-V", "mqttv5"],
        &["-V", "mqttv311", "--tls-alpn", "x-amzn-mqtt-ca"],
        &["-V", "mqttv5", "--tls-alpn", "x-amzn-mqtt-ca"],
        &["-V", "mqttv311", "-c"],
    ] {
        let child = site.subscriber(Some("thing1"), "thing1", &own_topic("thing1"), more);
        let output = deliver_to(&site, child, "thing1").await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(r#""clientAccessToken":"secret""#),
            "{more:?}: {text:?}"
        );
    }
    // The last one left a session, and perhaps a message that came after its own: not that one.
    site.lab.revoke("t");
    site.lab.publish("thing1", "t2", "while away").await;
    let child = site.subscriber(Some("thing1"), "thing1", &own_topic("thing1"), &["-c"]);
    let text = String::from_utf8(end(child).await.stdout).unwrap();
    assert!(
        text.contains(r#""clientAccessToken":"while away""#) && !text.contains("secret"),
        "{text:?}"
    );
}

/// On several threads, as the service: a certificate is looked up in the middle of a handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_negative_cases_end_as_documented() {
    let Some(site) = Site::new(&["thing1", "thing2"]).await else {
        return;
    };
    let own = own_topic("thing1");
    let foreign_id = end(site.subscriber(Some("thing1"), "thing2", &own, &[])).await;
    assert_eq!(foreign_id.status.code(), Some(5), "{foreign_id:?}");
    let nobody = end(site.subscriber(None, "thing1", &own, &[])).await;
    assert_eq!(nobody.status.code(), Some(7), "{nobody:?}");
    let stranger = end(site.subscriber(Some("stranger"), "thing1", &own, &[])).await;
    assert_eq!(stranger.status.code(), Some(7), "{stranger:?}");
    let other = own_topic("thing2");
    let denied = end(site.subscriber(Some("thing1"), "thing1", &other, &[])).await;
    let text = String::from_utf8_lossy(&denied.stderr);
    assert!(
        denied.stdout.is_empty() && text.contains("denied"),
        "{denied:?}"
    );
    let forge = ["-i", "thing1", "-t", &own, "-m", "forged", "-V", "mqttv311"];
    let forged = site
        .command("mosquitto_pub", Some("thing1"), &forge)
        .output();
    let forged = forged.await.unwrap();
    assert!(!forged.status.success(), "{forged:?}");
}
