//! Gate, control plane and table of links, around a loop of the relay: sides come, replace each other and go while
//! their token is rotated or their tunnel ends. When all is quiet, what is up has the right to be, and everybody says
//! the same of it.

use std::collections::HashSet;
use std::sync::Arc;

use shuttle::future::{block_on, spawn};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Mutex, mpsc};
use shuttle::thread;
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use crate::audit::{Audit, Change};
use crate::clock::Clock;
use crate::control::news::{News, NewsReceiver, NewsSender, Queues, news};
use crate::control::{ControlPlane, OpenTunnel, RotatedSides};
use crate::gate::Gate;
use crate::handshake::ServerRequest;
use crate::link::{Admission, Grant, RelayControl};
use crate::links::Links;
use crate::schedules::in_many_orders;
use crate::store::{MemoryStore, TunnelStore};
use crate::tunnels::{Connected, Lifetime, Limits, Seen, Tags};
use crate::{AccessToken, ClientToken, Mode, TunnelId};

/// What a loop is told.
enum Command {
    Attach(Grant),
    /// The link of this session is lost, if it is up.
    Lose(u64),
    EndSide(Mode, u64),
    EndTunnel,
    Mark(Mark),
}

/// What a loop tells.
enum Report {
    Attached(Grant),
    Gone(Grant),
    Mark(Mark),
}

/// Travels behind everything else the way of commands, reports and news: what was before it is done when its sender
/// is dropped. Without one, whoever passes it on ends.
type Mark = Option<oneshot::Sender<()>>;

/// The relay, of one loop: both sides of a tunnel are on the same.
#[derive(Clone)]
struct Relay(mpsc::Sender<Command>);

impl RelayControl for Relay {
    fn end_side(&self, _: &TunnelId, mode: Mode, newest: u64) {
        self.0.send(Command::EndSide(mode, newest)).unwrap();
    }

    fn end_tunnel(&self, _: &TunnelId) {
        self.0.send(Command::EndTunnel).unwrap();
    }
}

/// The rules of the product's `RelayIo`: the later session stays, and the end of a link is told at once, before the
/// arrival of the one that replaces it.
fn run_loop(
    commands: &mpsc::Receiver<Command>,
    reports: &tokio_mpsc::UnboundedSender<Report>,
    up: &Mutex<Vec<Grant>>,
) {
    while let Ok(command) = commands.recv() {
        let tell = |report| reports.send(report).ok().unwrap();
        let end = |fits: &dyn Fn(&Grant) -> bool| {
            let ended: Vec<_> = up
                .lock()
                .unwrap()
                .extract_if(.., |grant| fits(grant))
                .collect();
            ended
                .into_iter()
                .for_each(|grant| tell(Report::Gone(grant)));
        };
        match command {
            Command::Attach(grant) => {
                let mode = grant.mode;
                let is_later = |other: &Grant| other.mode == mode && other.session > grant.session;
                if up.lock().unwrap().iter().any(is_later) {
                    tell(Report::Gone(grant));
                } else {
                    end(&|other| other.mode == mode);
                    tell(Report::Attached(grant.clone()));
                    up.lock().unwrap().push(grant);
                }
            }
            Command::Lose(session) => end(&|grant| grant.session == session),
            Command::EndSide(mode, newest) => {
                end(&|grant| grant.mode == mode && grant.session <= newest)
            }
            Command::EndTunnel => end(&|_| true),
            Command::Mark(mark) => {
                let is_last = mark.is_none();
                tell(Report::Mark(mark));
                if is_last {
                    return;
                }
            }
        }
    }
}

/// As the product's relay hands reports on.
async fn pass_on(
    mut reports: tokio_mpsc::UnboundedReceiver<Report>,
    gate: Arc<Gate<MemoryStore>>,
    news: NewsSender,
    marks: tokio_mpsc::UnboundedSender<Mark>,
) {
    while let Some(report) = reports.recv().await {
        match report {
            Report::Attached(grant) => gate.connected(&grant),
            Report::Gone(grant) => gate.disconnected(&grant),
            Report::Mark(mark) => {
                let is_last = mark.is_none();
                let _ = marks.send(mark);
                news.send(&marker(), News::LookAgain);
                if is_last {
                    return;
                }
            }
        }
    }
}

/// What the product's `follow_news` does on tokio's tasks.
async fn follow_news(
    mut news: NewsReceiver,
    control: Arc<ControlPlane<MemoryStore>>,
    mut marks: tokio_mpsc::UnboundedReceiver<Mark>,
) {
    let (queues, turns) = (
        Arc::new(Queues::default()),
        Arc::new(tokio::sync::Semaphore::new(2)),
    );
    let mut tasks = Vec::new();
    while let Some((tunnel, news)) = news.recv().await {
        if tunnel == marker() {
            for task in tasks.drain(..) {
                let _: Result<(), _> = task.await;
            }
            match marks.recv().await.unwrap() {
                Some(mark) => drop(mark),
                None => return,
            }
        } else if queues.put(&tunnel, news) {
            let (control, queues, turns) = (
                Arc::clone(&control),
                Arc::clone(&queues),
                Arc::clone(&turns),
            );
            tasks.push(spawn(async move {
                control.follow_one(&tunnel, &queues, &turns).await
            }));
        }
    }
}

fn marker() -> TunnelId {
    "marker".parse().unwrap()
}

/// Each side has its own: a client token is good for one.
fn client(mode: Mode) -> &'static str {
    match mode {
        Mode::Source => "a",
        Mode::Destination => "d",
    }
}

/// A node of the service, with one tunnel.
#[derive(Clone)]
struct Node {
    store: Arc<MemoryStore>,
    links: Arc<Links>,
    gate: Arc<Gate<MemoryStore>>,
    control: Arc<ControlPlane<MemoryStore>>,
    audit: Audit,
    relay: Relay,
    /// What the loop has.
    up: Arc<Mutex<Vec<Grant>>>,
    id: TunnelId,
}

impl Node {
    /// One client that may go again: before it has the answer, or once it is up.
    fn come_and_go(&self, mode: Mode, token: &AccessToken) {
        if let Some(grant) = self.connect(mode, token, client(mode))
            && thread_rng().gen_bool(0.3)
        {
            self.relay.0.send(Command::Lose(grant.session)).unwrap();
        }
    }

    /// One client's handshake; some go before they have the answer.
    fn connect(&self, mode: Mode, token: &AccessToken, client: &str) -> Option<Grant> {
        let request = ServerRequest {
            mode,
            access_token: token.clone(),
            client_token: Some(ClientToken::strict(client.repeat(32)).unwrap()),
        };
        let address = ([192, 0, 2, 1], 1).into();
        let grant = block_on(self.gate.admit(&request, address, "")).ok()?;
        if thread_rng().gen_bool(0.1) {
            self.gate.disconnected(&grant);
            return None;
        }
        self.relay.0.send(Command::Attach(grant.clone())).unwrap();
        Some(grant)
    }

    /// Until everything that was told has had its consequences, and those theirs.
    fn settle(&self) {
        for _ in 0..2 {
            let (mark, passed) = oneshot::channel();
            self.relay.0.send(Command::Mark(Some(mark))).unwrap();
            let _ = block_on(passed);
        }
    }

    /// What must hold when all is quiet.
    fn check(&self) {
        let now = Clock.now();
        let up = self.up.lock().unwrap().clone();
        let shown = block_on(self.store.describe(now, &self.id)).unwrap();
        for (mode, shown) in [
            (Mode::Source, shown.source),
            (Mode::Destination, shown.destination),
        ] {
            let mut of_side = up.iter().filter(|grant| grant.mode == mode);
            let link = of_side.next();
            assert!(of_side.next().is_none());
            assert_eq!(shown.connected, link.is_some(), "{mode}");
            if let Some(Grant { session, .. }) = link {
                let told = self.store.set_connected(now, &self.id, mode, *session);
                assert_eq!(block_on(told), Ok(Connected::Current), "{mode}");
            }
        }
        let sessions: HashSet<_> = up.iter().map(|grant| grant.session).collect();
        let known = self.links.of(&self.id).into_iter().map(|link| link.session);
        assert_eq!(known.collect::<HashSet<_>>(), sessions);
        assert_eq!(
            self.links.has(&self.id),
            !up.is_empty(),
            "a link that never came is left"
        );
        self.check_audit(&sessions);
    }

    /// Each link was let in, may have come, and has gone or is up, each once and in this order.
    fn check_audit(&self, up: &HashSet<u64>) {
        let (mut here, mut came, mut gone) = (HashSet::new(), HashSet::new(), HashSet::new());
        for change in self.audit.changes() {
            match change {
                Change::Admitted { session, .. } => assert!(here.insert(session)),
                Change::Connected { session, .. } => {
                    assert!(!gone.contains(&session) && came.insert(session));
                }
                Change::Disconnected { session, .. } => assert!(gone.insert(session)),
                Change::Opened
                | Change::TokenRotated { .. }
                | Change::Closed { .. }
                | Change::Deleted => {}
            }
        }
        assert!(came.is_subset(&here) && gone.is_subset(&here));
        assert!(up.is_subset(&came));
        assert_eq!(here.difference(&gone).copied().collect::<HashSet<_>>(), *up);
    }
}

/// Starts a node, lets `scene` play on it, and looks at what is left.
fn on_a_node(scene: fn(&Node, AccessToken, AccessToken)) {
    let store = Arc::new(MemoryStore::new(Limits::default()));
    let (links, audit) = (Arc::new(Links::default()), Audit::default());
    let (news, heard) = news();
    let (commands, inbox) = mpsc::channel();
    let relay = Relay(commands);
    let gate = Gate::new(Arc::clone(&store), Arc::clone(&links), news.clone(), Clock);
    let control = ControlPlane::new(
        Arc::clone(&store),
        Arc::new(relay.clone()),
        None,
        Arc::clone(&links),
        news.clone(),
        Clock,
    );
    let control = Arc::new(control.with_audit(audit.clone()));
    let opened = OpenTunnel {
        description: None,
        tags: Tags::new(),
        config: None,
        lifetime: Lifetime::MAX,
        owner: None,
    };
    let opened = block_on(control.open(opened)).unwrap();
    let node = Node {
        store,
        links,
        gate: Arc::new(gate.with_audit(audit.clone())),
        control,
        audit,
        relay,
        up: Arc::default(),
        id: opened.id,
    };
    let (reports, reported) = tokio_mpsc::unbounded_channel();
    let (marks, marked) = tokio_mpsc::unbounded_channel();
    let (up, gate, control) = (
        Arc::clone(&node.up),
        Arc::clone(&node.gate),
        Arc::clone(&node.control),
    );
    let threads = [
        thread::spawn(move || run_loop(&inbox, &reports, &up)),
        thread::spawn(move || block_on(pass_on(reported, gate, news, marks))),
        thread::spawn(move || block_on(follow_news(heard, control, marked))),
    ];
    scene(&node, opened.source, opened.destination);
    node.settle();
    node.check();
    // And nothing is left of what goes.
    node.relay.0.send(Command::EndTunnel).unwrap();
    node.settle();
    node.check();
    node.relay.0.send(Command::Mark(None)).unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Two clients on each side, of which those of a side have the same pair of tokens.
fn crowd(
    node: &Node,
    source: AccessToken,
    destination: AccessToken,
) -> [thread::JoinHandle<()>; 4] {
    let sides = [(Mode::Source, source), (Mode::Destination, destination)];
    let [source, destination] = sides.map(|(mode, token)| {
        [token.clone(), token].map(|token| {
            let node = node.clone();
            thread::spawn(move || node.come_and_go(mode, &token))
        })
    });
    let ([one, two], [three, four]) = (source, destination);
    [one, two, three, four]
}

/// Who comes with the token of a rotation stays, and nobody of before.
pub fn a_rotation_among_links_that_come_and_go() {
    in_many_orders(|| {
        on_a_node(|node, source, destination| {
            let crowd = crowd(node, source, destination);
            let sides = RotatedSides::One(Mode::Source);
            let rotated =
                block_on(node.control.rotate(&node.id, sides, None, Seen::Anything)).unwrap();
            let fresh = node.connect(Mode::Source, &rotated.source.unwrap(), "b");
            crowd.into_iter().for_each(|client| client.join().unwrap());
            node.settle();
            let up = node.up.lock().unwrap().clone();
            let source = up.iter().find(|grant| grant.mode == Mode::Source);
            assert_eq!(source, fresh.as_ref());
        });
    });
}

/// When the tunnel is closed, nobody stays.
pub fn an_end_among_links_that_come_and_go() {
    in_many_orders(|| {
        on_a_node(|node, source, destination| {
            let crowd = crowd(node, source, destination);
            block_on(node.control.close(&node.id, false)).unwrap();
            crowd.into_iter().for_each(|client| client.join().unwrap());
            node.settle();
            assert!(node.up.lock().unwrap().is_empty());
        });
    });
}
