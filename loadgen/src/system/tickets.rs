//! What lets the two sides of a tunnel in: tokens, made anew for each run.

use serde::{Deserialize, Serialize};

/// One tunnel and its four tokens. No `Debug`, so that none gets into a log by mistake.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ticket {
    /// The tunnel's name at the service.
    pub tunnel: String,
    /// Access token of the source.
    pub source_token: String,
    /// Access token of the destination.
    pub destination_token: String,
    /// What a source of the system itself sends along, so that it may come back.
    pub source_client_token: String,
    /// The same for its destination.
    pub destination_client_token: String,
}

impl Ticket {
    /// Makes the ticket of the tunnel at `index`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn new(index: usize) -> Result<Self, getrandom::Error> {
        Ok(Self {
            tunnel: format!("load-{index}"),
            source_token: token()?,
            destination_token: token()?,
            source_client_token: token()?,
            destination_client_token: token()?,
        })
    }
}

/// 128 random bits as 32 hexadecimal digits: as long as a client token has to be.
fn token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_what_the_protocol_takes_and_all_different() {
        let tickets: Vec<Ticket> = (0..100).map(|it| Ticket::new(it).unwrap()).collect();
        let mut all = std::collections::HashSet::new();
        for ticket in tickets {
            for token in [ticket.source_token, ticket.destination_token] {
                adit_proto::AccessToken::new(token.clone()).unwrap();
                all.insert(token);
            }
            for token in [ticket.source_client_token, ticket.destination_client_token] {
                adit_proto::ClientToken::strict(token.clone()).unwrap();
                all.insert(token);
            }
        }
        assert_eq!(all.len(), 400);
    }
}
