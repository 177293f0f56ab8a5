//! The corpora, replayed, and for a while changed at random.
//!
//! `ADIT_FUZZ_SECONDS` says for how long each target is run on changed inputs (otherwise a few hundred
//! times), `ADIT_FUZZ_SEED` with which ones, `ADIT_FUZZ_TARGET` for which target alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use adit_fuzz::mutate::Mutator;
use adit_fuzz::{TARGETS, Target};

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = fuzz_directory().join("corpus").join(target.name);
    let entries = fs::read_dir(&directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry of the corpus").path())
        .map(|path| (path.clone(), fs::read(path).expect("a file of the corpus")))
        .collect();
    files.sort();
    files
}

fn names_in(directory: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(fuzz_directory().join(directory)).expect("a directory of fuzz/");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().trim_end_matches(ending).to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_the_other_way_round() {
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(names_in("fuzz_targets", ".rs"), names);
    assert_eq!(names_in("corpus", ""), names);
    for target in TARGETS {
        let program = format!("fuzz_targets/{}.rs", target.name);
        let program = fs::read_to_string(fuzz_directory().join(program)).expect("a program");
        assert!(
            program.contains(&format!("target(\"{}\")", target.name)),
            "{program}"
        );
        let sizes = corpus(&target).into_iter().map(|(_, bytes)| bytes.len());
        let (count, size) = sizes.fold((0, 0), |(count, size), next| (count + 1, size + next));
        assert!((1..=600).contains(&count), "{}: {count} files", target.name);
        assert!(size <= 1 << 20, "{}: {size} bytes", target.name);
    }
}

#[test]
fn what_fuzzers_found_is_found_no_more() {
    for target in TARGETS {
        for (path, bytes) in corpus(&target) {
            let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(result.is_ok(), "{}: {}", target.name, path.display());
        }
    }
}

#[test]
fn inputs_changed_at_random_find_nothing() {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect(name))
    };
    let seconds = number("ADIT_FUZZ_SECONDS").map(Duration::from_secs);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = number("ADIT_FUZZ_SEED").unwrap_or_else(|| now.expect("it is after 1970").as_secs());
    eprintln!("ADIT_FUZZ_SEED={seed}");
    let only = env::var("ADIT_FUZZ_TARGET").ok();
    let is_wanted = |target: &Target| only.as_ref().is_none_or(|only| only == target.name);
    for target in TARGETS.into_iter().filter(is_wanted) {
        let corpus: Vec<_> = corpus(&target)
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        let mut mutator = Mutator::new(seed);
        let (start, mut runs) = (Instant::now(), 0_u64);
        while seconds.map_or(runs < RUNS, |seconds| start.elapsed() < seconds) {
            for _ in 0..64 {
                let bytes = mutator.next(&corpus);
                let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
                if let Err(panic) = result {
                    fail(&target, seed, &bytes, &*panic);
                }
            }
            runs += 64;
        }
        eprintln!("{}: {runs} inputs in {:?}", target.name, start.elapsed());
    }
}

/// Keeps the input, to be put into the corpus once it is understood.
fn fail(target: &Target, seed: u64, bytes: &[u8], panic: &(dyn Any + Send)) -> ! {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let path = directory.join(format!("{}-{seed}", target.name));
    let kept = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, bytes));
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    panic!(
        "{}, seed {seed}: {}\ninput: {} ({kept:?})",
        target.name,
        text.unwrap_or_default(),
        path.display()
    );
}

/// Changed inputs for each target when no time is given.
const RUNS: u64 = 512;
