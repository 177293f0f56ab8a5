//! A relay that has run out of descriptors (R-05).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::ServeConfig;
use super::support::{Relay, converse, settings};

const IN_CHILD: &str = "ADIT_TEST_SHORT_OF_DESCRIPTORS";

/// Runs itself again with a limit of 64 descriptors, which binds a whole process.
#[test]
fn a_shortage_of_descriptors_is_survived_without_spinning() {
    if std::env::var_os(IN_CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        return runtime.unwrap().block_on(survive());
    }
    let own_name = "link::tests::shortage::a_shortage_of_descriptors_is_survived_without_spinning";
    let output = Command::new("sh")
        .arg("-c")
        .arg(r#"ulimit -n 64 && exec "$0" --exact "$1" --nocapture"#)
        .arg(std::env::current_exe().unwrap())
        .arg(own_name)
        .env(IN_CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

async fn survive() {
    let mut relay = Relay::start(ServeConfig::default()).await;
    let clock = File::open("/proc/self/stat").unwrap();
    // Client and relay share the limit, so the queue of the kernel fills as the relay runs short.
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(relay.address).await {
        clients.push(client);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(
        clients.len() > 10 && clients.len() < 64,
        "{}",
        clients.len()
    );
    let short = Instant::now();
    let busy = cpu_time(&clock);
    sleep(Duration::from_secs(1)).await;
    let busy = cpu_time(&clock) - busy;
    // R-05: less than 5 %; three times that here, where the machine is shared.
    assert!(busy < Duration::from_millis(150), "spun for {busy:?}");
    assert!(short.elapsed() < Duration::from_secs(10));

    drop(clients);
    let start = Instant::now();
    let (near, far) = relay.connect(settings(relay.address)).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    converse(near, far, 1000).await;
    relay.stop().await.unwrap();
}

/// Processor time of this process so far, user and system.
fn cpu_time(stat: &File) -> Duration {
    // Opened before: there is no descriptor left to open it with.
    let mut text = [0; 1024];
    let size = stat.read_at(&mut text, 0).unwrap();
    let stat = String::from_utf8_lossy(&text[..size]);
    // proc(5): fields 14 and 15, counted behind the name in parentheses; 100 ticks a second.
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|it| it.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}
