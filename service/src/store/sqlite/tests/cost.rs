//! What operations cost with many tunnels stored; see store/cost.rs.

use super::*;
use crate::store::cost::{Cold, Timer, close, fill, warm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reading_costs_with_many_tunnels() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let stored = fill(&store, rig.now()).await;
    warm(&*store, rig.now(), stored).await;
    drop(store);
    let mut cold = Cold::default();
    for _ in 0..40 {
        let store = rig.start();
        cold.ask(&store, rig.now(), stored).await;
    }
    cold.print();
}

/// Writing with sums and without them, in turns; and what a start asks of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sums_cost() {
    for round in 0..3 {
        let turns = [round % 2 == 0, round % 2 == 1];
        for has_sums in turns {
            let rig = Rig::new();
            let store = Arc::new(rig.start());
            if !has_sums {
                let drop = |table: &sums::Table| {
                    let name = table.name;
                    format!("DROP TRIGGER {name}_sum_insert; DROP TRIGGER {name}_sum_update;")
                };
                store
                    .write(sums::TABLES.iter().map(drop).collect::<String>())
                    .await;
            }
            eprintln!(
                "{}:",
                if has_sums {
                    "with sums"
                } else {
                    "without sums"
                }
            );
            let stored = fill(&store, rig.now()).await;
            close(&store, rig.now(), stored).await;
            store.shut_down().await;
            drop(store);
            if has_sums {
                look(&rig);
            }
        }
    }
}

/// Each of a start's looks at the whole file, by a connection that has nothing of it yet, and a whole start.
fn look(rig: &Rig) {
    let timed = |what: &str, look: &dyn Fn(&Connection)| {
        let connection = Connection::open(rig.path()).unwrap();
        sums::register(&connection).unwrap();
        let timer = Timer::start();
        look(&connection);
        eprintln!("{what}: {:?}", timer.elapsed());
    };
    let pragma = |connection: &Connection, name: &str| {
        let sql = format!("PRAGMA {name}(1)");
        let said: String = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(said, "ok");
    };
    timed("quick_check", &|connection| {
        pragma(connection, "quick_check")
    });
    timed("integrity_check", &|connection| {
        pragma(connection, "integrity_check")
    });
    timed("sums", &|connection| {
        assert_eq!(sums::contradiction(connection).unwrap(), None)
    });
    let timer = Timer::start();
    drop(rig.start());
    let size = std::fs::metadata(rig.path()).unwrap().len() >> 20;
    eprintln!("a start: {:?} with a file of {size} MiB", timer.elapsed());
}
