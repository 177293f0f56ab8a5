//! Connections to local services by name: each name is looked up once at a time.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{DialError, happy_eyeballs, resolve};

/// The names that are being looked up for local services; shared by the proxies of a process.
///
/// How many connections are begun is for the other end of a tunnel to say, and a look-up has a thread of the runtime
/// for as long as the system's resolver likes: for half a minute where no name server answers. So whoever comes while
/// a name is looked up waits for that answer. There are as many look-ups at once as names in the configuration, and
/// threads are left for what else needs one: the link's own name, and files.
#[derive(Debug, Clone, Default)]
pub struct Lookups(Arc<Mutex<UnderWay>>);

type UnderWay = BTreeMap<(String, u16), watch::Receiver<Option<Answer>>>;

type Answer = Result<Vec<SocketAddr>, Arc<DialError>>;

impl Lookups {
    /// Resolves `host` and connects to it, all within `deadline`.
    pub(super) async fn dial(
        &self,
        host: &str,
        port: u16,
        deadline: Duration,
    ) -> io::Result<TcpStream> {
        let start = Instant::now();
        let late = |_| DialError::TimedOut {
            host: host.to_owned(),
            after: deadline,
        };
        let found = timeout(deadline, self.addresses(host, port)).await;
        let found = found.map_err(|after| io::Error::other(late(after)))?;
        let addresses = found.map_err(io::Error::other)?;
        let left = deadline.saturating_sub(start.elapsed());
        let dialled = happy_eyeballs(&addresses, None, left).await;
        dialled.map_err(io::Error::other)
    }

    async fn addresses(&self, host: &str, port: u16) -> Answer {
        let mut told = self.ask(host, port);
        let answer = told.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| answer.clone());
        // There is none only where the runtime ends.
        answer.unwrap_or_else(|| Err(Arc::new(DialError::NoAddress)))
    }

    /// Where the answer will be of a look-up that is under way, or else of a new one. That goes on though nobody
    /// waits for it any more.
    fn ask(&self, host: &str, port: u16) -> watch::Receiver<Option<Answer>> {
        let name = (host.to_owned(), port);
        let mut under_way = self.locked();
        if let Some(told) = under_way.get(&name) {
            return told.clone();
        }
        let (tell, told) = watch::channel(None);
        under_way.insert(name.clone(), told.clone());
        let lookups = self.clone();
        tokio::spawn(async move {
            let answer = resolve(&name.0, name.1).await.map_err(Arc::new);
            lookups.locked().remove(&name);
            tell.send_replace(Some(answer));
        });
        told
    }

    fn locked(&self) -> MutexGuard<'_, UnderWay> {
        // What is behind it is changed in single steps, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_look_up_shares_its_answer_and_who_comes_later_does_not() {
        let lookups = Lookups::default();
        let first = lookups.ask("127.0.0.1", 22);
        assert!(first.same_channel(&lookups.ask("127.0.0.1", 22)));
        assert!(!first.same_channel(&lookups.ask("127.0.0.1", 23)));
        let answer = lookups.addresses("127.0.0.1", 22).await;
        assert_eq!(answer.unwrap(), ["127.0.0.1:22".parse().unwrap()]);
        assert!(!first.same_channel(&lookups.ask("127.0.0.1", 22)));
    }
}
