//! files that were cut off, or in which one bit has changed. The store is refused, or holds exactly what was
//! written; of a journal that was cut off or damaged at its end, what was written up to some moment, as after a loss of
//! power. `ADIT_DAMAGES` is how often (a release: 5,000).

use super::tables::queue_one;
use super::*;
use crate::audit::{AuditSink, Change, Event, Record};
use crate::testing::{Random, asked, seed};

/// What one way to end has left, and what may be found in it.
struct Image {
    /// Names and contents.
    files: Vec<(&'static str, Vec<u8>)>,
    /// What is in it after each of its last changes, the last one at the end.
    states: Vec<String>,
}

/// Everything in a store, as text.
async fn content(store: &SqliteStore) -> Result<String, TunnelError> {
    let read = |connection: &Connection| {
        let mut text = String::new();
        let tables = sums::TABLES.iter().map(|table| table.name);
        for table in tables.chain(["open_tunnels"]) {
            let sql = format!("SELECT * FROM {table} ORDER BY 1, 2");
            let mut select = connection.prepare(&sql)?;
            let columns = select.column_count();
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|index| row.get_ref(index));
                let values: Vec<_> = values.collect::<Result<_, _>>()?;
                text += &format!("{table}: {values:?}\n");
            }
        }
        Ok(text)
    };
    store
        .readers
        .read::<_, TunnelError, rusqlite::Error>(read)
        .await
}

/// What is found in files like these, which are left alone.
async fn found(rig: &Rig, files: &[(&str, Vec<u8>)]) -> Result<String, String> {
    let other = Rig {
        clock: rig.clock.clone(),
        ..Rig::new()
    };
    let dir = DataDir::open(other.parent.path()).unwrap();
    for (name, bytes) in files {
        let path = dir.private_file(name).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    drop(dir);
    let store = other.try_start().map_err(|error| error.to_string())?;
    let found = content(&store).await.map_err(|error| error.to_string());
    store.shut_down().await;
    found
}

fn left_in(rig: &Rig) -> Vec<(&'static str, Vec<u8>)> {
    let files = [database::FILE, database::JOURNAL];
    let read = |name| Some((name, std::fs::read(rig.parent.path().join(name)).ok()?));
    files.into_iter().filter_map(read).collect()
}

/// Every kind of record.
async fn fill(store: &SqliteStore, now: Now) {
    queue_one(store, now).await;
    for number in 0..40 {
        let name = format!("t-{number}");
        let tunnel = open(store, now, &name).await.unwrap();
        let client = Some(name.as_str()).filter(|_| number % 2 == 0);
        let _ = spend(store, now, &tunnel, Mode::Source, client).await;
        let record = Arc::new(Record {
            time: now.wall,
            event: Event::Tunnel {
                id: tunnel.id,
                change: Change::Opened,
            },
        });
        store.append(record).await.unwrap();
    }
}

/// After an end in good order, and after a kill some changes later.
async fn images() -> (Rig, [Image; 2]) {
    let rig = Rig::new();
    let store = rig.start();
    fill(&store, rig.now()).await;
    store.shut_down().await;
    drop(store);
    let at_rest = left_in(&rig);
    let rest = found(&rig, &at_rest).await.unwrap();

    let store = rig.start();
    // Its first transaction is one of them.
    let mut states = vec![rest.clone()];
    states.push(found(&rig, &left_in(&rig.after_a_kill())).await.unwrap());
    for number in 0..30 {
        let id = format!("later-{}", number / 2);
        match number % 2 {
            0 => _ = open(&store, rig.now(), &id).await.unwrap(),
            _ => {
                _ = store
                    .close(rig.now(), &id.parse().unwrap(), number % 3 == 0)
                    .await
                    .unwrap()
            }
        }
        let state = found(&rig, &left_in(&rig.after_a_kill())).await.unwrap();
        states.push(state);
    }
    let files = left_in(&rig.after_a_kill());
    let killed = Image { files, states };
    let at_rest = Image {
        files: at_rest,
        states: vec![rest],
    };
    (rig, [at_rest, killed])
}

/// What was done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut(usize),
    Flip { byte: usize, bit: u32 },
}

impl Damage {
    fn random(random: &mut Random, size: usize) -> Self {
        let byte = random.below(size);
        match random.below(2) {
            0 => Self::Cut(byte),
            _ => Self::Flip {
                byte,
                bit: random.below(8) as u32,
            },
        }
    }

    fn happen(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Cut(size) => bytes.truncate(size),
            Self::Flip { byte, bit } => bytes[byte] ^= 1 << bit,
        }
    }
}

impl Image {
    /// What may be found once this has happened to this file.
    fn allowed(&self, file: &str, damage: Damage) -> &[String] {
        let last = self.states.len() - 1;
        match (file, damage) {
            (database::FILE, _) => &self.states[last..],
            (_, Damage::Flip { .. }) => &self.states[last - 1..],
            (_, Damage::Cut(_)) => &self.states,
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_holds_what_was_written() {
    let (mut random, damages) = (Random(seed()), asked("ADIT_DAMAGES", 300));
    let (rig, images) = images().await;
    let (mut refused, mut whole, mut earlier) = (0, 0, 0);
    for _ in 0..damages {
        let image = &images[random.below(2)];
        let mut files = image.files.clone();
        let place = random.below(files.len());
        let (file, bytes) = &mut files[place];
        let (file, damage) = (*file, Damage::random(&mut random, bytes.len()));
        damage.happen(bytes);
        let what = format!("{damage:?} of {file} beside {} files", files.len() - 1);
        let found = match found(&rig, &files).await {
            Ok(found) => found,
            Err(error) => {
                assert!(error.contains(database::FILE), "{what}: {error}");
                refused += 1;
                continue;
            }
        };
        let allowed = image.allowed(file, damage);
        assert!(
            allowed.contains(&found),
            "{what}: taken for what was written"
        );
        match image.states.last() == Some(&found) {
            true => whole += 1,
            false => earlier += 1,
        }
    }
    eprintln!(
        "{damages} damages: {refused} refused, {whole} without effect, {earlier} as of an earlier moment"
    );
    assert!(refused > damages / 3 && whole > 0);
}
