//! The thread that writes to SQLite, with a disk that fails now and then: a change is there exactly where its caller
//! was told so, also while the store is shut down and where callers give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, Error};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;
use shuttle::thread;

use super::writer::Writer;
use crate::data_dir::DataDir;
use crate::schedules::in_many_orders;
use crate::store::error::{Fault, Unavailable};
use crate::tunnels::TunnelError;

/// What the writer needs of the module that it is in.
pub(super) mod database {
    pub(crate) const FILE: &str = "adit.db";
}

pub(super) fn answer<E: Unavailable, D>(fault: Fault<E, D>) -> E {
    match fault {
        Fault::Refused(refused) => refused,
        Fault::Database(_) | Fault::Lost(_) => E::unavailable(),
        Fault::Damaged(_) => E::damaged(),
    }
}

const CALLERS: u32 = 3;
const CHANGES_EACH: u32 = 2;

/// In memory, for all who know its name.
fn open() -> (Connection, Connection) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("file:{name}?mode=memory&cache=shared");
    let reader = Connection::open(&name).unwrap();
    reader
        .execute_batch("CREATE TABLE change (number INTEGER PRIMARY KEY)")
        .unwrap();
    let mut writer = Connection::open(&name).unwrap();
    let fails = || thread_rng().gen_bool(0.2);
    writer.commit_hook(Some(fails)).unwrap();
    (reader, writer)
}

/// A rule refuses every third.
fn change(writer: &Writer, number: u32, told: &Arc<Mutex<Vec<u32>>>) -> Result<(), TunnelError> {
    let apply = move |connection: &Connection| {
        connection
            .execute("INSERT INTO change VALUES (?1)", [number])
            .map_err(Fault::Database)?;
        match number % 3 {
            0 => Err(Fault::<_, Error>::Refused(TunnelError::Damaged)),
            _ => Ok(()),
        }
    };
    let told = Arc::clone(told);
    let then = move |()| told.lock().unwrap().push(number);
    let changing = writer.change_then(apply, then);
    block_on(async {
        let given_up = async {
            let yields = thread_rng().gen_range(0..8);
            for _ in 0..yields {
                shuttle::future::yield_now().await;
            }
            // Most wait for as long as it takes.
            if thread_rng().gen_bool(0.8) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            result = changing => result,
            () = given_up => Err(TunnelError::Uncertain),
        }
    })
}

pub fn a_change_is_there_where_its_caller_was_told_so() {
    in_many_orders(|| {
        let (reader, connection) = open();
        let writer = Arc::new(Writer::start(connection, Arc::new(DataDir)).unwrap());
        let told = Arc::default();
        let calling = |caller: u32| {
            let (writer, told) = (Arc::clone(&writer), Arc::clone(&told));
            thread::spawn(move || {
                let numbers = (0..CHANGES_EACH).map(|number| caller * CHANGES_EACH + number);
                numbers
                    .map(|number| (number, change(&writer, number, &told)))
                    .collect::<Vec<_>>()
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(calling).collect();
        writer.stop();
        let results: Vec<_> = callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect();
        let told = told.lock().unwrap();
        for (number, result) in results {
            let count = "SELECT COUNT(*) FROM change WHERE number = ?1";
            let is_there = reader.query_row(count, [number], |row| row.get::<_, u32>(0)) == Ok(1);
            match result {
                Ok(()) => assert!(is_there, "{number} is lost"),
                Err(TunnelError::Damaged) => assert!(number % 3 == 0 && !is_there),
                Err(TunnelError::Unavailable) => {
                    assert!(!is_there, "{number} was said to have failed")
                }
                // It gave up.
                Err(_) => {}
            }
            assert_eq!(told.contains(&number), is_there, "{number}");
        }
    });
}
