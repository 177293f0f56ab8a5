//! A data plane that breaks.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::{DialSettings, Dialer, Relay, RelayControl, ServeConfig};
use super::support::{Doorman, PATIENCE, settings};
use crate::ring::IoChoice;

async fn start(admission: &Arc<Doorman>) -> (Relay, DialSettings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(listener.local_addr().unwrap());
    let (config, admission) = (ServeConfig::default(), Arc::clone(admission));
    let loops = Some(NonZeroUsize::MIN);
    let relay = Relay::start(listener, config, admission, IoChoice::Auto, loops).unwrap();
    (relay, settings)
}

#[tokio::test]
async fn every_link_of_a_loop_that_breaks_is_reported_and_so_is_every_later_one() {
    let doorman = Arc::new(Doorman::default());
    let (relay, settings) = start(&doorman).await;
    let token = settings.access_token.expose().to_owned();
    let _before = Dialer::new(settings.clone()).dial().await.unwrap();
    doorman.hears(&format!("connected {token}")).await;
    relay.loops[0].run(|| panic!("as the test wants it"));
    let failed = timeout(PATIENCE, relay.failed()).await;
    assert_eq!(failed, Ok("a loop"));
    doorman.hears(&format!("disconnected {token}")).await;
    // Admitted, and then there is no loop for it.
    let access_token = adit_proto::AccessToken::new("later".to_owned()).unwrap();
    let later = DialSettings {
        access_token,
        ..settings
    };
    let _after = Dialer::new(later).dial().await;
    doorman.hears("disconnected later").await;
    assert!(!doorman.heard().contains(&"connected later".to_owned()));
}
