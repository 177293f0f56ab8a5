//! Against Debian's `mosquitto` with certificates on both sides and an ACL by identity (threat T-09).

mod mosquitto;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::AccessToken;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::mosquitto::{Door, Mosquitto, PATIENCE, SERVICE};
use super::queue::Queue;
use super::session::Ended;
use super::*;
use crate::settings::MqttSettings;
use crate::testing::{Client, FOREIGN_FILTERS, asked, settings, start};
use crate::token::TokenHash;

/// Tokens that another node has rotated away.
#[derive(Default)]
struct Elsewhere(std::sync::Mutex<Vec<TokenHash>>);

impl Elsewhere {
    fn rotates(&self, token: &str) {
        let token = AccessToken::new(token.to_owned()).unwrap();
        self.0.lock().unwrap().push(TokenHash::of(&token));
    }
}

impl MayTell for Elsewhere {
    fn may_tell<'a>(
        &'a self,
        _tunnel: &'a TunnelId,
        token: TokenHash,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        let may = !self.0.lock().unwrap().contains(&token);
        Box::pin(std::future::ready(may))
    }
}

/// A store that takes its time.
struct Slow;

impl Slow {
    const TAKES: Duration = Duration::from_millis(400);
}

impl MayTell for Slow {
    fn may_tell<'a>(
        &'a self,
        _tunnel: &'a TunnelId,
        _token: TokenHash,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async {
            sleep(Self::TAKES).await;
            true
        })
    }
}

/// A notifier at work.
struct Site {
    notifier: Arc<ExternalBroker>,
    elsewhere: Arc<Elsewhere>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Site {
    fn new(settings: ExternalSettings) -> Self {
        let limits = QueueLimits::default();
        let hour = Duration::from_secs(3_600);
        let elsewhere = Arc::new(Elsewhere::default());
        let current = Arc::clone(&elsewhere) as Arc<dyn MayTell>;
        let notifier = ExternalBroker::new(settings, limits, hour, Clock::system(), current);
        let notifier = Arc::new(notifier);
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&notifier).run(stopping));
        Self {
            notifier,
            elsewhere,
            stop,
            task,
        }
    }

    async fn publish(&self, thing: &str, tunnel: &str, token: &str) {
        let thing = ThingName::new(thing).unwrap();
        let notification = notification(tunnel, token);
        self.notifier.publish(&thing, notification).await;
    }

    async fn revoke(&self, tunnel: &str) {
        self.notifier.revoke(&tunnel.parse().unwrap()).await;
    }

    /// The broker has acknowledged everything.
    async fn sent(&self) {
        let sent = timeout(Duration::from_secs(60), self.notifier.queue.emptied());
        sent.await.expect("the broker takes what is published");
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

fn notification(tunnel: &str, token: &str) -> Notification {
    Notification {
        tunnel: tunnel.parse().unwrap(),
        token: AccessToken::new(token.to_owned()).unwrap(),
        region: "us-east-1".into(),
        services: ["SSH".parse().unwrap()].into(),
    }
}

fn topic(thing: &str) -> String {
    format!("$aws/things/{thing}/tunnels/notify")
}

/// What `mosquitto_sub` prints of a notification.
fn line(thing: &str, token: &str) -> String {
    let payload = json!({
        "clientAccessToken": token, "clientMode": "destination", "region": "us-east-1", "services": ["SSH"],
    });
    format!("{} {payload}", topic(thing))
}

#[tokio::test]
async fn a_device_hears_of_its_own_tunnels_and_nobody_else_does() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a", "b"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let site = Site::new(mosquitto.settings(SERVICE));
    let (a, b) = (topic("a"), topic("b"));
    let of_a = broker.subscriber("a", &[&a], 1).await;
    // Each of these may hear of b only, whatever it has asked for, and was granted.
    let foreign = broker.subscriber("b", &[&a, &b], 1).await;
    let plus = broker.subscriber("b", &["$aws/things/+/tunnels/notify"], 1);
    let plus = plus.await;
    let hash = broker.subscriber("b", &["$aws/#"], 1).await;
    let all = broker.subscriber("b", &["#", &b], 1).await;
    site.publish("a", "t1", "for a").await;
    site.publish("b", "t2", "for b").await;
    assert_eq!(of_a.lines().await, [line("a", "for a")]);
    // In order: had there been one for a, it would have come before.
    for subscriber in [foreign, plus, hash, all] {
        assert_eq!(subscriber.lines().await, [line("b", "for b")]);
    }
    // Nothing is retained: who comes later hears of what comes later.
    site.sent().await;
    let late = broker.subscriber("a", &[&a], 1).await;
    site.publish("a", "t3", "later").await;
    assert_eq!(late.lines().await, [line("a", "later")]);
    site.stop().await;
}

/// T-09 of the reliability plan, with the configuration and the access list that operators are given.
/// The last identity's name is a wildcard: an authority that certifies such a name gives nothing away.
#[tokio::test]
async fn of_20_ways_to_subscribe_none_lets_an_identity_hear_what_is_for_another() {
    let identities = ["other", "victim2", "+"];
    let things = ["victim", "other", "victim2", "+"];
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &things) else {
        return;
    };
    let broker = mosquitto.start().await;
    let site = Site::new(mosquitto.settings(SERVICE));
    let mut foreign = Vec::new();
    for identity in identities {
        for filter in FOREIGN_FILTERS {
            let own = topic(identity);
            let subscriber = broker.subscriber(identity, &[filter, &own], 1).await;
            foreign.push((identity, filter, subscriber));
        }
    }
    let victim = broker.subscriber("victim", &[&topic("victim")], 1).await;
    site.publish("victim", "t1", "secret").await;
    assert_eq!(victim.lines().await, [line("victim", "secret")]);
    for identity in ["other", "victim2"] {
        site.publish(identity, &format!("for-{identity}"), "own")
            .await;
    }
    for (identity, filter, subscriber) in foreign {
        if identity == "+" {
            assert!(subscriber.is_silent().await, "{filter}");
            continue;
        }
        // In order: had there been one for the victim, it would have come before.
        let heard = subscriber.lines().await;
        assert_eq!(heard, [line(identity, "own")], "{identity}: {filter}");
    }
    site.stop().await;
}

/// T-10 of the reliability plan, the broker's half; `ADIT_FORGERIES` is how many (a release: 10,000).
#[tokio::test]
async fn what_others_than_the_service_publish_is_heard_by_nobody() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a", "b"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let site = Site::new(mosquitto.settings(SERVICE));
    let a = topic("a");
    let subscriber = broker.subscriber("a", &[&a], 1).await;
    let forgeries = asked("ADIT_FORGERIES", 200);
    let forged =
        r#"{"clientAccessToken":"x","clientMode":"destination","region":"r","services":["SSH"]}"#;
    for (forger, count) in [("a", forgeries.div_ceil(2)), ("b", forgeries / 2)] {
        broker.forge(forger, &a, forged, count).await;
    }
    site.publish("a", "t", "true").await;
    assert_eq!(subscriber.lines().await, [line("a", "true")]);
    eprintln!("T-10: {forgeries} forged notifications, none heard");
    site.stop().await;
}

/// A notifier whose broker has gone, with a session of `a` that the broker keeps over its own restart.
async fn without_its_broker(mosquitto: &Mosquitto) -> Site {
    let site = Site::new(mosquitto.settings(SERVICE));
    let broker = mosquitto.start().await;
    let session = broker.persistent_subscriber("a", &topic("a"), 1).await;
    site.publish("a", "first", "first").await;
    assert_eq!(session.lines().await, [line("a", "first")]);
    site.sent().await;
    broker.stop().await;
    site
}

#[tokio::test]
async fn what_is_published_while_the_broker_is_down_comes_later_but_not_what_was_revoked() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a"]) else {
        return;
    };
    let a = topic("a");
    let site = without_its_broker(&mosquitto).await;

    site.publish("a", "kept", "kept").await;
    site.publish("a", "rotated", "stale").await;
    site.publish("a", "closed", "closed").await;
    // As the control plane does it at a rotation.
    site.revoke("rotated").await;
    site.publish("a", "rotated", "fresh").await;
    site.revoke("closed").await;

    let broker = mosquitto.start().await;
    site.sent().await;
    site.publish("a", "last", "last").await;
    site.sent().await;
    let session = broker.persistent_subscriber("a", &a, 3).await;
    let expected = ["kept", "fresh", "last"].map(|token| line("a", token));
    assert_eq!(session.lines().await, expected);
    site.stop().await;
}

#[tokio::test]
async fn what_another_node_has_rotated_away_meanwhile_is_not_told() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a"]) else {
        return;
    };
    let a = topic("a");
    let site = without_its_broker(&mosquitto).await;

    for (tunnel, token) in [("t1", "stale"), ("t2", "good"), ("t3", "stale, too")] {
        site.publish("a", tunnel, token).await;
    }
    site.elsewhere.rotates("stale");
    site.elsewhere.rotates("stale, too");

    let broker = mosquitto.start().await;
    site.sent().await;
    let session = broker.persistent_subscriber("a", &a, 1).await;
    assert_eq!(session.lines().await, [line("a", "good")]);
    site.publish("a", "t4", "last").await;
    site.sent().await;
    let session = broker.persistent_subscriber("a", &a, 1).await;
    assert_eq!(session.lines().await, [line("a", "last")]);
    site.stop().await;
}

#[tokio::test]
async fn a_frozen_broker_holds_up_no_publication_and_gets_all_of_them_later() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let site = Site::new(mosquitto.settings(SERVICE));
    let subscriber = broker.subscriber("a", &[&topic("a")], 21).await;
    site.publish("a", "t", "t").await;
    site.sent().await;
    broker.signal("STOP").await;
    let tunnels: Vec<_> = (0..20).map(|number| format!("t{number}")).collect();
    let publications = async {
        for tunnel in &tunnels {
            site.publish("a", tunnel, tunnel).await;
        }
    };
    // None of these waits for an answer: there is none.
    timeout(Duration::from_secs(20), publications)
        .await
        .unwrap();
    assert_eq!(site.notifier.queue.len(), 20);
    broker.signal("CONT").await;
    let expected = ["t".to_owned()].into_iter().chain(tunnels);
    let expected: Vec<_> = expected.map(|token| line("a", &token)).collect();
    assert_eq!(subscriber.lines().await, expected);
    site.stop().await;
}

#[tokio::test]
async fn what_was_published_just_before_the_end_still_leaves() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let site = Site::new(mosquitto.settings(SERVICE));
    let subscriber = broker.subscriber("a", &[&topic("a")], 2).await;
    site.publish("a", "t1", "one").await;
    site.sent().await;
    site.publish("a", "t2", "two").await;
    site.stop().await;
    let expected = [line("a", "one"), line("a", "two")];
    assert_eq!(subscriber.lines().await, expected);
}

#[tokio::test]
async fn a_password_lets_the_service_in_where_the_broker_wants_one() {
    let Some(mosquitto) = Mosquitto::new(Door::Passwords, &["a"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let login = Login::parse("adit:right:one\n").unwrap();
    let site = Site::new(ExternalSettings {
        login: Some(login),
        ..mosquitto.settings(None)
    });
    site.publish("a", "t", "t").await;
    site.sent().await;
    site.stop().await;
    let wrong = ExternalSettings {
        login: Some(Login::parse("adit:wrong").unwrap()),
        ..mosquitto.settings(None)
    };
    for settings in [wrong, mosquitto.settings(None)] {
        let ended = failure(&settings).await;
        assert!(ended.reason.contains("not authorised"), "{}", ended.reason);
        assert!(ended.hint.unwrap().contains("--mqtt-broker-credentials"));
    }
    drop(broker);
}

#[tokio::test]
async fn each_refusal_says_what_happened_and_what_may_help() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a"]) else {
        return;
    };
    let ended = failure(&mosquitto.settings(SERVICE)).await;
    assert!(ended.reason.contains("refused"), "{}", ended.reason);
    assert!(ended.hint.unwrap().contains("does the broker run"));
    let broker = mosquitto.start().await;
    for (settings, word) in [
        // Certified by an authority that the broker does not know, or not at all.
        (mosquitto.settings(Some("stranger")), "--mqtt-broker-cert"),
        (mosquitto.settings(None), "--mqtt-broker-cert"),
        (mosquitto.distrusting(), "--mqtt-broker-ca"),
        (mosquitto.by_address(), "by the name"),
        (mosquitto.in_clear(), "write mqtts://"),
    ] {
        let ended = failure(&settings).await;
        let hint = ended.hint.unwrap_or_default();
        assert!(hint.contains(word), "{word}: {}: {hint}", ended.reason);
    }
    drop(broker);
}

#[tokio::test]
async fn the_service_tells_devices_through_the_broker_and_opens_no_door_of_its_own() {
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["lamp"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let running = start(crate::Settings {
        unregistered_things: true,
        mqtt: MqttSettings {
            external: Some(mosquitto.settings(SERVICE)),
            ..MqttSettings::default()
        },
        ..settings()
    })
    .await;
    let mut client = Client::new(&running).await;
    let subscriber = broker.subscriber("lamp", &[&topic("lamp")], 2).await;
    let destination = json!({"thingName": "lamp", "services": ["SSH"]});
    let opened = client
        .ok("OpenTunnel", json!({"destinationConfig": destination}))
        .await;
    let rotate = json!({"tunnelId": opened["tunnelId"], "clientMode": "ALL"});
    // The broker is to have the first before it is revoked.
    let first = subscriber.first_line().await;
    let rotated = client.ok("RotateTunnelAccessToken", rotate).await;
    let token = |answer: &serde_json::Value| {
        answer["destinationAccessToken"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(first, line("lamp", &token(&opened)));
    assert_eq!(subscriber.lines().await, [line("lamp", &token(&rotated))]);
    running.stop().await.unwrap();
}

/// Asking the store takes longer than the broker may take to answer.
#[tokio::test]
async fn what_the_broker_has_answered_is_not_overdue() {
    const LETTERS: usize = 20;
    let Some(mosquitto) = Mosquitto::new(Door::Certificates, &["a"]) else {
        return;
    };
    let broker = mosquitto.start().await;
    let subscriber = broker.subscriber("a", &[&topic("a")], LETTERS).await;
    let settings = mosquitto.settings(SERVICE);
    let (queue, clock) = (Queue::new(QueueLimits::default()), Clock::system());
    let (thing, expires) = (
        ThingName::new("a").unwrap(),
        clock.now().steady.after(PATIENCE),
    );
    for letter in 0..LETTERS {
        let notification = notification(&format!("t{letter}"), &format!("token{letter}"));
        assert_eq!(queue.put(&thing, &notification, expires), None);
    }
    let (_leave, leaving) = watch::channel(false);
    let session = Session::new(&settings, &queue, &clock, &Slow);
    let session = session.with_answer_limit(Slow::TAKES / 2);
    let connected = async {
        tokio::select! {
            ended = session.connect(leaving) => panic!("{}", ended.reason),
            () = queue.emptied() => {}
        }
    };
    timeout(PATIENCE, connected).await.expect("all is answered");
    assert_eq!(subscriber.lines().await.len(), LETTERS);
}

/// The end of one attempt that fails.
async fn failure(settings: &ExternalSettings) -> Ended {
    let (queue, clock) = (Queue::new(QueueLimits::default()), Clock::system());
    let (_leave, leaving) = watch::channel(false);
    let elsewhere = Elsewhere::default();
    let session = Session::new(settings, &queue, &clock, &elsewhere);
    let ended = timeout(Duration::from_secs(30), session.connect(leaving));
    ended.await.expect("the attempt fails")
}
