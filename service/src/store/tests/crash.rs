//! Random operations, a crash at a random write, and a model that knows what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;

/// A small generator: these tests want repeatable variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

/// How far the last write gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    BeforeTheWrite,
    HalfWay,
    /// The file is replaced, but nobody hears of it.
    AfterTheRename,
}

/// A disk that fails now and then, and from some write on for good.
struct Mortal {
    random: Random,
    left: usize,
    death: Death,
    dead: Arc<AtomicBool>,
}

impl Mortal {
    fn write(&mut self, dir: &DataDir, bytes: &[u8]) -> Result<(), DataDirError> {
        let failed = DataDirError::io("write", &dir.file(FILE), io::ErrorKind::Other.into());
        if self.left == 0 {
            return Err(failed);
        }
        if self.random.below(5) == 0 {
            return Err(failed);
        }
        self.left -= 1;
        if self.left > 0 {
            return save(dir, bytes);
        }
        self.dead.store(true, Ordering::SeqCst);
        match self.death {
            Death::BeforeTheWrite => {}
            Death::HalfWay => {
                fs::write(dir.file(".tunnels.json.new"), &bytes[..bytes.len() / 2]).unwrap();
            }
            Death::AfterTheRename => save(dir, bytes).unwrap(),
        }
        Err(failed)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Use {
    Unused,
    Spent,
    Bound(String),
}

/// What is known of a tunnel from answers.
#[derive(Clone, PartialEq)]
struct Known {
    exists: bool,
    closed: bool,
    tags: Tags,
    /// Of both sides: the good token, by its place in `tokens`, and what it may still do.
    sides: [(usize, Use); 2],
}

#[derive(Clone)]
struct Model {
    id: TunnelId,
    known: Known,
    /// The state that an unanswered change would have led to.
    maybe: Option<Known>,
    /// Every token that there ever was, also those that nobody was given.
    tokens: Vec<(Mode, AccessToken)>,
}

const MODES: [Mode; 2] = [Mode::Source, Mode::Destination];

impl Model {
    /// One random operation; says what the state is if it succeeds.
    async fn step(mut self, store: Arc<MemoryStore>, now: Now, mut random: Random) -> Self {
        let mut next = self.known.clone();
        let side = random.below(2);
        let result = match random.below(7) {
            0 if !next.exists && self.tokens.is_empty() => {
                let (opened, new) = prepare(self.id.as_str());
                self.tokens = MODES.map(|mode| (mode, opened.token(mode).clone())).into();
                next.exists = true;
                next.sides = [(0, Use::Unused), (1, Use::Unused)];
                let result = store.open_tunnel(now, new).await;
                if result.is_err() {
                    // The tokens of a failed opening are nobody's; the next attempt has others.
                    self.maybe = Some(next.clone());
                }
                result
            }
            1 if next.exists => {
                let delete = random.below(3) == 0;
                (next.exists, next.closed) = (!delete, true);
                store.close_tunnel(now, &self.id, delete).await
            }
            2 if next.exists && !next.closed => {
                let (token, result) = rotate(&store, now, &self.id, MODES[side]).await;
                next.sides[side] = (self.tokens.len(), Use::Unused);
                self.tokens.push((MODES[side], token));
                result
            }
            3 if next.exists => {
                let key = format!("k{}", random.below(5));
                next.tags.insert(key.clone(), "v".to_owned());
                store.tag(&self.id, tags(&[(&key, "v")])).await
            }
            4 if next.exists => {
                let key = format!("k{}", random.below(5));
                next.tags.remove(&key);
                store.untag(&self.id, vec![key]).await
            }
            _ if next.exists && !next.closed && next.sides[side].1 == Use::Unused => {
                let token = self.tokens[next.sides[side].0].1.clone();
                let client = (random.below(2) == 0).then(|| format!("{}-{side}", self.id));
                let admitted = spend(&store, now, MODES[side], &token, client.as_deref()).await;
                next.sides[side].1 = client.map_or(Use::Spent, Use::Bound);
                admitted.map(drop).map_err(|refusal| {
                    assert_eq!(refusal, Refusal::Unavailable);
                    TunnelError::Unavailable
                })
            }
            _ => return self,
        };
        match result {
            Ok(()) => (self.known, self.maybe) = (next, None),
            Err(error) => {
                assert_eq!(error, TunnelError::Unavailable);
                self.maybe = Some(next);
            }
        }
        self
    }

    /// What the store says, and what it would say in this state.
    async fn compare(&self, store: &MemoryStore, now: Now) -> bool {
        let (mut seen, mut known, mut maybe) = (Vec::new(), Vec::new(), Vec::new());
        seen.push(format!("{:?}", store.status(now, &self.id).await));
        seen.push(format!("{:?}", store.tags(&self.id).await.ok()));
        for (mode, token) in &self.tokens {
            let verdict = spend(store, now, *mode, token, None).await;
            seen.push(format!("{:?}", verdict.map(drop)));
        }
        self.expect(&self.known, &mut known);
        if let Some(state) = &self.maybe {
            self.expect(state, &mut maybe);
        }
        assert!(
            seen == known || seen == maybe,
            "{seen:?} {known:?} {maybe:?}"
        );
        self.bound_come_back(store, now).await;
        seen == known
    }

    fn expect(&self, state: &Known, texts: &mut Vec<String>) {
        let status = if state.closed {
            Status::Closed
        } else {
            Status::Open
        };
        texts.push(format!("{:?}", state.exists.then_some(status)));
        texts.push(format!("{:?}", state.exists.then_some(&state.tags)));
        for (index, (mode, _)) in self.tokens.iter().enumerate() {
            let side = MODES.iter().position(|m| m == mode).unwrap();
            let (good, use_) = &state.sides[side];
            let verdict = match use_ {
                _ if !state.exists || *good != index => Err(Refusal::UnknownToken),
                _ if state.closed => Err(Refusal::TunnelClosed),
                Use::Unused => Ok(()),
                Use::Spent => Err(Refusal::Used),
                Use::Bound(_) => Err(Refusal::OtherClientToken),
            };
            texts.push(format!("{verdict:?}"));
        }
    }

    /// Devices that were let in with a client token come back by themselves.
    async fn bound_come_back(&self, store: &MemoryStore, now: Now) {
        if self.maybe.is_some() || !self.known.exists || self.known.closed {
            return;
        }
        for (mode, (token, use_)) in MODES.into_iter().zip(&self.known.sides) {
            if let Use::Bound(client) = use_ {
                let token = &self.tokens[*token].1;
                spend(store, now, mode, token, Some(client)).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_restart_has_everything_that_was_acknowledged() {
    let (mut kept, mut ahead) = (0, 0);
    for seed in 1..=60 {
        let (same, other) = run(seed).await;
        kept += same;
        ahead += other;
    }
    // Both kinds were met, or this test shows nothing.
    assert!(kept > 100, "{kept}");
    assert!(ahead > 5, "{ahead}");
}

/// How many tunnels were found as known, and how many one unanswered change ahead.
async fn run(seed: u64) -> (usize, usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let rig = Rig::new();
    let deaths = [Death::BeforeTheWrite, Death::HalfWay, Death::AfterTheRename];
    let death = deaths[random.below(3)];
    let mut disk = Mortal {
        random: Random(seed),
        left: 2 + random.below(30),
        death,
        dead: Arc::default(),
    };
    let dead = Arc::clone(&disk.dead);
    let dir = DataDir::open(rig.parent.path()).unwrap();
    let tunnels = load(&dir, Limits::default(), rig.now()).unwrap();
    let save = Box::new(move |bytes: &[u8]| disk.write(&dir, bytes));
    let Ok(store) = MemoryStore::with_save(&rig.path(), tunnels, rig.now(), save) else {
        // The disk failed at the start, so there was no store.
        return (0, 0);
    };
    let store = Arc::new(store);
    let mut models: Vec<Model> = (0..8)
        .map(|number| Model {
            id: format!("tunnel-{number}").parse().unwrap(),
            known: Known {
                exists: false,
                closed: false,
                tags: Tags::new(),
                sides: [(0, Use::Unused), (1, Use::Unused)],
            },
            maybe: None,
            tokens: Vec::new(),
        })
        .collect();
    // With every tunnel deleted, nothing is left to write.
    for _ in 0..300 {
        if dead.load(Ordering::SeqCst) {
            break;
        }
        let mut steps = JoinSet::new();
        for model in models.drain(..) {
            // Never zero, and different for each.
            let own = Random(1 + random.below(usize::MAX - 1) as u64);
            // A failed change leaves nothing behind, so what follows starts from what is known.
            let fresh = Model {
                maybe: None,
                tokens: if model.known.exists || model.known.closed {
                    model.tokens.clone()
                } else {
                    Vec::new()
                },
                ..model
            };
            steps.spawn(fresh.step(Arc::clone(&store), rig.now(), own));
        }
        models = steps.join_all().await;
    }
    // No goodbye: the disk takes no more writes.
    drop(store);

    let store = rig.start();
    let mut found = (0, 0);
    for model in &models {
        if model.compare(&store, rig.now()).await {
            found.0 += 1;
        } else {
            assert_eq!(death, Death::AfterTheRename, "seed {seed}");
            found.1 += 1;
        }
    }
    found
}
