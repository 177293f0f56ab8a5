//! What every mailbox has to do: one function a rule, instantiated for a store by `mailbox_rules!`.
//!
//! A message goes with the token of its tunnel, so what is tested is a store of both.

use std::time::Duration;

use adit_proto::{AccessToken, TunnelId};

use super::{Mailbox, MailboxError, MailboxLimits, Message, Opened, Qos, SessionStart};
use crate::clock::manual::ManualClock;
use crate::clock::{Now, Timestamp};
use crate::registry::{NewThing, Registry};
use crate::store::TunnelStore;
use crate::token::{RoutingKey, TokenHash};
use crate::tunnels::{Lifetime, NewTunnel, Rotation, Seen, Tags, ThingName, TunnelError};

/// The limits that the rules expect of the mailbox they are given.
pub(crate) const LIMITS: MailboxLimits = MailboxLimits {
    sessions_max: 3,
    queued_max: 4,
};

/// Makes one test of each rule. The argument makes what dereferences to an empty mailbox with given
/// limits, and is dropped after the rule: `|limits: MailboxLimits| async { … }`.
macro_rules! mailbox_rules {
    ($make:expr) => {
        conformance::rule_tests! { $make;
            a_session_is_resumed_only_when_it_was_to_outlive_its_connection,
            a_clean_start_forgets_what_was_queued,
            a_session_ends_after_its_time,
            a_displaced_connection_disturbs_nothing,
            messages_wait_in_order_until_they_are_settled,
            a_message_that_was_given_out_is_given_out_again_as_such,
            nothing_is_queued_without_a_subscription,
            at_most_once_is_given_out_once_and_never_kept_for_later,
            the_oldest_of_too_many_messages_goes,
            a_message_replaces_the_one_about_the_same_tunnel,
            a_message_goes_with_its_token,
            a_message_goes_with_its_tunnel,
            a_message_with_an_old_token_changes_nothing,
            an_expired_message_is_never_given_out,
            unsubscribing_empties_the_queue,
            a_deleted_thing_takes_its_session_and_messages_with_it,
            sessions_beyond_the_limit_are_refused_until_others_end,
            a_renewed_session_lives_longer,
        }
    };
}
pub(crate) use mailbox_rules;

macro_rules! rule_tests {
    ($make:expr; $($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let make = $make;
                let mailbox = make(conformance::LIMITS).await;
                conformance::$rule(&*mailbox).await;
            }
        )*
    };
}
pub(crate) use rule_tests;

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_763_900_000_000 + seconds * 1000)
}

fn thing(name: &str) -> ThingName {
    ThingName::new(name).unwrap()
}

fn tunnel(name: &str) -> TunnelId {
    name.parse().unwrap()
}

fn now(seconds: u64) -> Now {
    Now {
        steady: at(seconds),
        wall: at(seconds),
        ..ManualClock::new().now()
    }
}

/// Of the destination of the tunnel of this name, unless it is rotated.
fn token(name: &str) -> TokenHash {
    TokenHash::of(&AccessToken::new(format!("token-of-{name}")).unwrap())
}

fn message(name: &str) -> Message {
    Message {
        tunnel: tunnel(name),
        token: token(name),
        expires: at(3600),
        sealed: name.as_bytes().into(),
    }
}

/// Opens the tunnel of this name, if there is none.
async fn tunnel_opened<S: TunnelStore>(store: &S, name: &str) {
    let new = NewTunnel {
        id: tunnel(name),
        routing_key: RoutingKey::of(&tunnel(name)),
        source: token("another"),
        destination: token(name),
        description: None,
        tags: Tags::new(),
        config: None,
        lifetime: Lifetime::MAX,
        owner: None,
    };
    match store.open_tunnel(now(0), new).await {
        Ok(()) | Err(TunnelError::Taken(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Gives the sides tokens of these names.
async fn rotate<S: TunnelStore>(store: &S, name: &str, source: Option<&str>, to: Option<&str>) {
    let rotation = Rotation {
        source: source.map(token),
        destination: to.map(token),
        config: None,
        seen: Seen::Anything,
    };
    store.rotate(now(1), &tunnel(name), rotation).await.unwrap();
}

fn start(clean: bool, resumable: bool) -> SessionStart {
    SessionStart {
        clean,
        resumable,
        until: at(7200),
    }
}

async fn open<M: Mailbox>(mailbox: &M, name: &str) -> Opened {
    let start = start(false, true);
    mailbox.open(at(0), &thing(name), start).await.unwrap()
}

/// A connection whose session is subscribed with QoS 1.
async fn subscribed<M: Mailbox>(mailbox: &M, name: &str) -> u64 {
    let connection = open(mailbox, name).await.connection;
    let qos = Some(Qos::AtLeastOnce);
    assert!(
        mailbox
            .subscribe(&thing(name), connection, qos)
            .await
            .unwrap()
    );
    connection
}

async fn push<M: Mailbox + TunnelStore>(mailbox: &M, name: &str, about: &str) -> bool {
    tunnel_opened(mailbox, about).await;
    let (thing, message) = (thing(name), message(about));
    mailbox.push(at(1), &thing, message).await.unwrap()
}

/// Takes and settles everything; the tunnels that it was about.
async fn drain<M: Mailbox>(mailbox: &M, name: &str, connection: u64) -> Vec<String> {
    let mut tunnels = Vec::new();
    while let Some(queued) = mailbox.next(at(2), &thing(name), connection).await.unwrap() {
        assert_eq!(&queued.message, &message(queued.message.tunnel.as_str()));
        tunnels.push(queued.message.tunnel.to_string());
        mailbox
            .settle(&thing(name), connection, queued.id)
            .await
            .unwrap();
        assert!(tunnels.len() < 100, "a settled message came again");
    }
    tunnels
}

pub(crate) async fn a_session_is_resumed_only_when_it_was_to_outlive_its_connection<
    M: Mailbox + TunnelStore,
>(
    mailbox: &M,
) {
    let first = open(mailbox, "a").await;
    assert!(!first.present && first.subscription.is_none());
    let connection = subscribed(mailbox, "a").await;
    Mailbox::close(mailbox, at(1), &thing("a"), connection, HOUR)
        .await
        .unwrap();
    let again = open(mailbox, "a").await;
    assert_eq!(
        (again.present, again.subscription),
        (true, Some(Qos::AtLeastOnce))
    );
    Mailbox::close(
        mailbox,
        at(2),
        &thing("a"),
        again.connection,
        Duration::ZERO,
    )
    .await
    .unwrap();
    assert!(!open(mailbox, "a").await.present);
    // Also when nobody could say that it ended.
    let short = mailbox
        .open(at(3), &thing("b"), start(false, false))
        .await
        .unwrap();
    mailbox
        .subscribe(&thing("b"), short.connection, Some(Qos::AtLeastOnce))
        .await
        .unwrap();
    let after = open(mailbox, "b").await;
    assert_eq!((after.present, after.subscription), (false, None));
}

pub(crate) async fn a_clean_start_forgets_what_was_queued<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    assert!(push(mailbox, "a", "t1").await);
    Mailbox::close(mailbox, at(1), &thing("a"), connection, HOUR)
        .await
        .unwrap();
    let opened = mailbox
        .open(at(2), &thing("a"), start(true, true))
        .await
        .unwrap();
    assert_eq!((opened.present, opened.subscription), (false, None));
    let qos = Some(Qos::AtLeastOnce);
    mailbox
        .subscribe(&thing("a"), opened.connection, qos)
        .await
        .unwrap();
    assert!(drain(mailbox, "a", opened.connection).await.is_empty());
}

pub(crate) async fn a_session_ends_after_its_time<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    Mailbox::close(mailbox, at(10), &thing("a"), connection, HOUR)
        .await
        .unwrap();
    let late = at(10 + 3600);
    tunnel_opened(mailbox, "t1").await;
    assert!(
        !mailbox
            .push(late, &thing("a"), message("t1"))
            .await
            .unwrap()
    );
    assert!(
        !mailbox
            .open(late, &thing("a"), start(false, true))
            .await
            .unwrap()
            .present
    );
    let connection = subscribed(mailbox, "b").await;
    Mailbox::close(mailbox, at(10), &thing("b"), connection, HOUR)
        .await
        .unwrap();
    assert_eq!(Mailbox::expire(mailbox, at(3609)).await.unwrap(), 0);
    assert_eq!(Mailbox::expire(mailbox, late).await.unwrap(), 1);
}

pub(crate) async fn a_displaced_connection_disturbs_nothing<M: Mailbox + TunnelStore>(mailbox: &M) {
    let old = subscribed(mailbox, "a").await;
    let new = open(mailbox, "a").await;
    assert!(new.present && new.connection != old);
    assert!(push(mailbox, "a", "t1").await);
    let name = thing("a");
    assert!(!mailbox.subscribe(&name, old, None).await.unwrap());
    assert!(!mailbox.renew(&name, old, at(1)).await.unwrap());
    assert!(mailbox.next(at(2), &name, old).await.unwrap().is_none());
    let queued = mailbox
        .next(at(2), &name, new.connection)
        .await
        .unwrap()
        .unwrap();
    mailbox.settle(&name, old, queued.id).await.unwrap();
    Mailbox::close(mailbox, at(2), &name, old, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(drain(mailbox, "a", new.connection).await, ["t1"]);
}

pub(crate) async fn messages_wait_in_order_until_they_are_settled<M: Mailbox + TunnelStore>(
    mailbox: &M,
) {
    let connection = subscribed(mailbox, "a").await;
    subscribed(mailbox, "b").await;
    for about in ["t1", "t2", "t3"] {
        assert!(push(mailbox, "a", about).await);
    }
    assert!(push(mailbox, "b", "t4").await);
    let name = thing("a");
    for _ in 0..2 {
        let queued = mailbox
            .next(at(2), &name, connection)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(queued.message, message("t1"), "the first stays first");
    }
    assert_eq!(drain(mailbox, "a", connection).await, ["t1", "t2", "t3"]);
}

pub(crate) async fn a_message_that_was_given_out_is_given_out_again_as_such<
    M: Mailbox + TunnelStore,
>(
    mailbox: &M,
) {
    let connection = subscribed(mailbox, "a").await;
    push(mailbox, "a", "t1").await;
    let name = thing("a");
    let first = mailbox
        .next(at(2), &name, connection)
        .await
        .unwrap()
        .unwrap();
    assert!(!first.again && first.qos == Qos::AtLeastOnce);
    Mailbox::close(mailbox, at(2), &name, connection, HOUR)
        .await
        .unwrap();
    let opened = open(mailbox, "a").await;
    let second = mailbox
        .next(at(3), &name, opened.connection)
        .await
        .unwrap()
        .unwrap();
    assert!(second.again && second.id == first.id);
    assert_eq!(drain(mailbox, "a", opened.connection).await, ["t1"]);
}

pub(crate) async fn nothing_is_queued_without_a_subscription<M: Mailbox + TunnelStore>(
    mailbox: &M,
) {
    assert!(!push(mailbox, "nobody", "t1").await);
    let opened = open(mailbox, "a").await;
    assert!(!push(mailbox, "a", "t1").await);
    let qos = Some(Qos::AtLeastOnce);
    mailbox
        .subscribe(&thing("a"), opened.connection, qos)
        .await
        .unwrap();
    assert!(drain(mailbox, "a", opened.connection).await.is_empty());
}

pub(crate) async fn at_most_once_is_given_out_once_and_never_kept_for_later<
    M: Mailbox + TunnelStore,
>(
    mailbox: &M,
) {
    let name = thing("a");
    let connection = open(mailbox, "a").await.connection;
    let qos = Some(Qos::AtMostOnce);
    mailbox.subscribe(&name, connection, qos).await.unwrap();
    assert!(push(mailbox, "a", "t1").await);
    let queued = mailbox
        .next(at(2), &name, connection)
        .await
        .unwrap()
        .unwrap();
    assert!(queued.qos == Qos::AtMostOnce && !queued.again);
    assert!(
        mailbox
            .next(at(2), &name, connection)
            .await
            .unwrap()
            .is_none()
    );
    Mailbox::close(mailbox, at(3), &name, connection, HOUR)
        .await
        .unwrap();
    assert!(!push(mailbox, "a", "t2").await);
    let opened = open(mailbox, "a").await;
    assert_eq!((opened.present, opened.subscription), (true, qos));
    assert!(drain(mailbox, "a", opened.connection).await.is_empty());
}

pub(crate) async fn the_oldest_of_too_many_messages_goes<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    Mailbox::close(mailbox, at(1), &thing("a"), connection, HOUR)
        .await
        .unwrap();
    for about in ["t1", "t2", "t3", "t4", "t5", "t6"] {
        assert!(push(mailbox, "a", about).await);
    }
    let connection = open(mailbox, "a").await.connection;
    let drained = drain(mailbox, "a", connection).await;
    assert_eq!(drained, ["t3", "t4", "t5", "t6"]);
}

pub(crate) async fn a_message_replaces_the_one_about_the_same_tunnel<M: Mailbox + TunnelStore>(
    mailbox: &M,
) {
    let (a, b) = (
        subscribed(mailbox, "a").await,
        subscribed(mailbox, "b").await,
    );
    for (name, about) in [("a", "t1"), ("a", "t2"), ("a", "t1"), ("b", "t2")] {
        assert!(push(mailbox, name, about).await);
    }
    // Also when the device it moves to has no session.
    assert!(push(mailbox, "a", "t3").await);
    assert!(!push(mailbox, "nobody", "t3").await);
    assert_eq!(drain(mailbox, "a", a).await, ["t1"]);
    assert_eq!(drain(mailbox, "b", b).await, ["t2"]);
}

pub(crate) async fn a_message_goes_with_its_token<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    for about in ["t1", "t2", "t3", "t4"] {
        assert!(push(mailbox, "a", about).await);
    }
    let name = thing("a");
    // One that was given out already, too.
    mailbox
        .next(at(2), &name, connection)
        .await
        .unwrap()
        .unwrap();
    rotate(mailbox, "t1", None, Some("new")).await;
    rotate(mailbox, "t2", Some("new"), None).await;
    rotate(mailbox, "t3", Some("new"), Some("new")).await;
    // Those that are gone give room to others.
    for about in ["t5", "t6"] {
        assert!(push(mailbox, "a", about).await);
    }
    let left = drain(mailbox, "a", connection).await;
    assert_eq!(left, ["t2", "t4", "t5", "t6"]);
}

pub(crate) async fn a_message_goes_with_its_tunnel<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    for about in ["t1", "t2", "t3"] {
        assert!(push(mailbox, "a", about).await);
    }
    TunnelStore::close(mailbox, now(1), &tunnel("t1"), false)
        .await
        .unwrap();
    TunnelStore::close(mailbox, now(1), &tunnel("t3"), true)
        .await
        .unwrap();
    assert_eq!(drain(mailbox, "a", connection).await, ["t2"]);
    let name = thing("a");
    for about in ["t1", "t3"] {
        let late = mailbox.push(at(1), &name, message(about)).await;
        assert!(!late.unwrap(), "{about}");
    }
    // A lifetime that is over, before anybody has come by to say so.
    let mut late = message("t2");
    late.expires = at(100_000);
    assert!(mailbox.push(at(1), &name, late.clone()).await.unwrap());
    let until = at(200_000);
    assert!(mailbox.renew(&name, connection, until).await.unwrap());
    let over = at(u64::from(Lifetime::MAX.minutes()) * 60);
    assert!(!mailbox.push(over, &name, late).await.unwrap());
    let queued = mailbox.next(over, &name, connection).await.unwrap();
    assert_eq!(queued, None);
    // And after it.
    assert!(push(mailbox, "a", "t2").await);
    let expired = TunnelStore::expire(mailbox, now(43_200)).await.unwrap();
    assert_eq!(expired.ended, [tunnel("t2")]);
    assert!(drain(mailbox, "a", connection).await.is_empty());
}

pub(crate) async fn a_message_with_an_old_token_changes_nothing<M: Mailbox + TunnelStore>(
    mailbox: &M,
) {
    let connection = subscribed(mailbox, "a").await;
    tunnel_opened(mailbox, "t").await;
    rotate(mailbox, "t", None, Some("new")).await;
    let name = thing("a");
    // As when another node has rotated meanwhile, and was faster.
    let new = Message {
        token: token("new"),
        ..message("t")
    };
    assert!(mailbox.push(at(1), &name, new.clone()).await.unwrap());
    assert!(!mailbox.push(at(1), &name, message("t")).await.unwrap());
    let queued = mailbox.next(at(2), &name, connection).await.unwrap();
    assert_eq!(queued.map(|queued| queued.message), Some(new));
    let never = mailbox.push(at(1), &name, message("never-there")).await;
    assert!(!never.unwrap());
}

pub(crate) async fn an_expired_message_is_never_given_out<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    push(mailbox, "a", "t1").await;
    tunnel_opened(mailbox, "t2").await;
    let mut later = message("t2");
    later.expires = at(3700);
    mailbox.push(at(1), &thing("a"), later).await.unwrap();
    let queued = mailbox
        .next(at(3600), &thing("a"), connection)
        .await
        .unwrap();
    assert_eq!(queued.unwrap().message.tunnel, tunnel("t2"));
    assert_eq!(Mailbox::expire(mailbox, at(3700)).await.unwrap(), 1);
    assert!(drain(mailbox, "a", connection).await.is_empty());
}

pub(crate) async fn unsubscribing_empties_the_queue<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    push(mailbox, "a", "t1").await;
    let name = thing("a");
    assert!(mailbox.subscribe(&name, connection, None).await.unwrap());
    assert!(
        mailbox
            .next(at(2), &name, connection)
            .await
            .unwrap()
            .is_none()
    );
    assert!(!push(mailbox, "a", "t2").await);
    let qos = Some(Qos::AtLeastOnce);
    mailbox.subscribe(&name, connection, qos).await.unwrap();
    assert!(drain(mailbox, "a", connection).await.is_empty());
}

pub(crate) async fn a_deleted_thing_takes_its_session_and_messages_with_it<
    M: Mailbox + TunnelStore + Registry,
>(
    mailbox: &M,
) {
    let new = NewThing {
        name: thing("a"),
        id: uuid::Uuid::new_v4(),
        type_name: None,
        attributes: Default::default(),
    };
    mailbox.create_thing(new).await.unwrap();
    let connection = subscribed(mailbox, "a").await;
    push(mailbox, "a", "t1").await;
    let other = subscribed(mailbox, "b").await;
    push(mailbox, "b", "t2").await;
    let name = thing("a");
    mailbox.delete_thing(&name, None).await.unwrap();
    assert!(!mailbox.renew(&name, connection, at(9000)).await.unwrap());
    assert_eq!(drain(mailbox, "b", other).await, ["t2"]);
    assert!(!open(mailbox, "a").await.present);
    let connection = subscribed(mailbox, "a").await;
    assert!(drain(mailbox, "a", connection).await.is_empty());
}

pub(crate) async fn sessions_beyond_the_limit_are_refused_until_others_end<
    M: Mailbox + TunnelStore,
>(
    mailbox: &M,
) {
    for name in ["a", "b", "c"] {
        open(mailbox, name).await;
    }
    let refused = mailbox.open(at(0), &thing("d"), start(true, true)).await;
    assert_eq!(refused, Err(MailboxError::Full { max: 3 }));
    let again = open(mailbox, "c").await;
    assert!(again.present);
    Mailbox::close(mailbox, at(1), &thing("c"), again.connection, HOUR)
        .await
        .unwrap();
    // The others live until 7200 s, this one does not.
    let opened = mailbox
        .open(at(3601), &thing("d"), start(true, true))
        .await
        .unwrap();
    assert!(!opened.present);
}

pub(crate) async fn a_renewed_session_lives_longer<M: Mailbox + TunnelStore>(mailbox: &M) {
    let connection = subscribed(mailbox, "a").await;
    assert!(
        mailbox
            .renew(&thing("a"), connection, at(9000))
            .await
            .unwrap()
    );
    assert_eq!(Mailbox::expire(mailbox, at(7200)).await.unwrap(), 0);
    tunnel_opened(mailbox, "t1").await;
    let mut late = message("t1");
    late.expires = at(9999);
    assert!(mailbox.push(at(8999), &thing("a"), late).await.unwrap());
}
