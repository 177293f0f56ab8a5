//! A file that is not what was written is refused, by name, and left as it is.

use super::*;

fn refusal(rig: &Rig, bytes: &[u8], what: &str) -> String {
    std::fs::write(rig.path(), bytes).unwrap();
    let Err(error) = rig.try_start() else {
        panic!("{what} was accepted");
    };
    assert_eq!(
        std::fs::read(rig.path()).unwrap(),
        bytes,
        "{what}: left alone"
    );
    let text = error.to_string();
    assert!(text.contains("/adit.db "), "{what}: {text}");
    assert!(text.contains("away"), "{what} says what to do: {text}");
    text
}

/// The file of a store that has ended, with a few hundred tunnels in it.
async fn written() -> (Rig, Vec<u8>) {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let mut opens = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (store, now) = (Arc::clone(&store), rig.now());
        opens.spawn(async move { open(&store, now, &format!("t-{number}")).await.map(drop) });
    }
    assert!(opens.join_all().await.iter().all(Result::is_ok));
    store.shut_down().await;
    drop(store);
    let bytes = std::fs::read(rig.path()).unwrap();
    (rig, bytes)
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused() {
    let (rig, bytes) = written().await;
    for size in [100, 4096, bytes.len() / 2, bytes.len() - 4096] {
        let text = refusal(&rig, &bytes[..size], &format!("cut at {size}"));
        assert!(text.contains("is damaged: "), "{text}");
    }
    std::fs::write(rig.path(), &bytes).unwrap();
    rig.start();
}

#[tokio::test]
async fn other_content_is_refused() {
    let (rig, bytes) = written().await;
    let mut holes = bytes.clone();
    holes[4096..8 * 4096].fill(0);
    for (what, bytes) in [
        ("text", &b"{}"[..]),
        ("zeroes", &vec![0; 4096]),
        ("a file with a hole", &holes),
    ] {
        let text = refusal(&rig, bytes, what);
        assert!(text.contains("is damaged: "), "{text}");
    }
}

/// SQLite deletes a journal beside an empty file, and all changes in it.
#[tokio::test]
async fn an_empty_file_beside_a_journal_with_changes_is_refused() {
    let rig = Rig::new();
    let store = rig.start();
    open(&store, rig.now(), "t").await.unwrap();
    let killed = rig.after_a_kill();
    let file = std::fs::read(killed.path()).unwrap();
    let journal = killed.parent.path().join(database::JOURNAL);
    let changes = std::fs::read(&journal).unwrap();
    let text = refusal(&killed, &[], "an empty file");
    assert!(text.contains("is damaged: it is empty"), "{text}");
    std::fs::remove_file(killed.path()).unwrap();
    assert!(killed.try_start().is_err(), "the file is gone");
    assert_eq!(std::fs::read(&journal).unwrap(), changes, "left alone");

    std::fs::write(killed.path(), file).unwrap();
    assert_eq!(killed.start().is_open(rig.now(), "t").await, Some(true));
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let rig = Rig::new();
    DataDir::open(rig.parent.path())
        .unwrap()
        .private_file(database::FILE)
        .unwrap();
    let other = Connection::open(rig.path()).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(other);
    let bytes = std::fs::read(rig.path()).unwrap();
    let text = refusal(&rig, &bytes, "another program's");
    assert!(text.contains("another program"), "{text}");
}

/// Left by `ANALYZE`, and by `PRAGMA optimize` of whoever has looked into the file.
#[test]
fn what_the_planner_knows_of_the_tables_is_no_damage() {
    let rig = Rig::new();
    drop(rig.start());
    let connection = Connection::open(rig.path()).unwrap();
    connection.execute_batch("ANALYZE").unwrap();
    drop(connection);
    drop(rig.start());
}

/// Litestream copies the journal elsewhere as it is written. It makes these in any database that it watches, and a copy
/// that was brought back has them.
#[test]
fn the_tables_of_what_copies_the_file_elsewhere_are_no_damage() {
    let rig = Rig::new();
    drop(rig.start());
    let connection = Connection::open(rig.path()).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
             CREATE TABLE IF NOT EXISTS _litestream_lock (id INTEGER);
             INSERT INTO _litestream_seq (id, seq) VALUES (1, 1);",
        )
        .unwrap();
    drop(connection);
    drop(rig.start());
}

#[test]
fn a_newer_version_is_not_called_damaged() {
    let rig = Rig::new();
    drop(rig.start());
    let newer = Connection::open(rig.path()).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let bytes = std::fs::read(rig.path()).unwrap();
    let text = refusal(&rig, &bytes, "version 99");
    assert!(
        text.contains("newer version of this program (format 99; this one knows up to 6)"),
        "{text}"
    );
}

#[tokio::test]
async fn a_damaged_record_keeps_no_other_open_and_is_forgotten_in_its_time() {
    let rig = Rig::new();
    let store = rig.start();
    for name in ["damaged", "misnamed", "sound"] {
        open(&store, rig.now(), name).await.unwrap();
    }
    store
        .write(
            "UPDATE tunnels SET source_use = 7 WHERE id = 'damaged'; \
             UPDATE tunnels SET id = 'mis named' WHERE id = 'misnamed'",
        )
        .await;
    let id = "damaged".parse().unwrap();
    let link = store.set_connected(rig.now(), &id, Mode::Source, 1).await;
    assert_eq!(link.unwrap_err(), TunnelError::Damaged);
    let now = rig.clock.advance(std::time::Duration::from_secs(720 * 60));
    let expired = store.expire(now).await.unwrap();
    assert_eq!(expired.ended, ["sound".parse().unwrap()]);
    assert_eq!(store.number("SELECT count(*) FROM tunnels").await, 1);
    let open = store.number("SELECT value FROM counters WHERE name = 'open'");
    assert_eq!(open.await, 0);
    assert!(expired.next.unwrap() > now.steady, "nothing is left to do");
}

#[tokio::test]
async fn wrong_counts_are_counted_again_at_the_start() {
    let rig = Rig::new();
    let store = rig.start();
    let (_, mut new) = prepare("one");
    new.owner = Some("KEY".into());
    store.open_tunnel(rig.now(), new).await.unwrap();
    store
        .write(
            "UPDATE open_tunnels SET count = 9; INSERT INTO open_tunnels VALUES ('key', 'GONE', 5); \
             UPDATE counters SET value = -3 WHERE name IN ('open', 'closed')",
        )
        .await;
    drop(store);
    let store = rig.start();
    let open = store.number("SELECT value FROM counters WHERE name = 'open'");
    assert_eq!(open.await, 1);
    let counts = store.number("SELECT sum(count) FROM open_tunnels");
    assert_eq!(counts.await, 1);
}
