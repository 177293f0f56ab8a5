//! The reference model: whether an end that a core decides on is one that it may decide on, and what
//! each application must have seen when nothing is under way any more.

use super::bugs::Bug;
use super::scene::{End, Scene};
use super::socket::{Told, Use};
use adit_engine::tunnel::limits::Limits;
use adit_proto::ids::Mode;
use anyhow::{Result, bail, ensure};
use std::time::Instant;

/// In answer to what a core decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The loss of its link.
    Loss,
    /// The end of its process.
    Kill,
    /// Time. All of its link that had come by then was read.
    Timeout { read_until: Instant },
    /// A new local connection.
    Accept,
    /// What the relay said.
    Input,
    /// Reading local sockets.
    Send,
    /// What local sockets reported.
    Local,
    /// Anything else.
    Other,
}

/// Records that a core ends a socket, if it may.
///
/// # Errors
/// It may not.
pub(super) fn judge(
    scene: &mut Scene,
    id: u32,
    is_cut: bool,
    cause: Cause,
    refused: bool,
) -> Result<()> {
    let told = match is_cut && !scene.errs(Bug::CutAsEnd, 300) {
        true => Told::Cut,
        false => Told::End,
    };
    let (limits, now) = (scene.profile.limits, scene.now);
    let end = scene.ends.get_mut(&id).expect("the number of a socket");
    ensure!(end.is_open(), "{} {id} is ended twice", end.mode);
    match told {
        Told::End => judge_end(&limits, now, id, end, cause)?,
        Told::Cut => {
            judge_cut(&limits, now, id, end, cause, refused)?;
            scene.breaks += 1;
        }
    }
    scene.end(id, told);
    Ok(())
}

fn judge_end(limits: &Limits, now: Instant, id: u32, end: &mut End, cause: Cause) -> Result<()> {
    let mode = end.mode;
    let has_ended = end.ended_at.is_some();
    let grace = match mode {
        Mode::Source => limits.half_close_grace,
        Mode::Destination => limits.half_close_grace / 4,
    };
    match cause {
        Cause::Loss | Cause::Kill => {
            bail!("{mode} {id} was cut with its link, and is told a plain end");
        }
        Cause::Timeout { read_until } => {
            let quiet_since = end.ended_at.map(|at| at.max(end.taken_at));
            let is_due = |by| quiet_since.is_some_and(|since| since + grace <= by);
            ensure!(
                is_due(now),
                "{mode} {id} is ended before its grace time is over"
            );
            ensure!(
                is_due(read_until),
                "{mode} {id} is ended for silence, and its link has not been read"
            );
            end.excuse.get_or_insert("its grace time is over");
        }
        Cause::Accept => {
            ensure!(has_ended, "{mode} {id} makes place, and had not ended");
            end.excuse.get_or_insert("it made place");
        }
        Cause::Send => {
            ensure!(has_ended, "{mode} {id} is ended, and had not ended");
            if grace.is_zero() {
                end.excuse.get_or_insert("there is no grace time");
            }
        }
        // The peer's word, or what was left of it is delivered.
        Cause::Input | Cause::Local | Cause::Other => {}
    }
    Ok(())
}

fn judge_cut(
    limits: &Limits,
    now: Instant,
    id: u32,
    end: &mut End,
    cause: Cause,
    refused: bool,
) -> Result<()> {
    let is_left = matches!(end.socket.app(), Use::Closed | Use::Reset);
    let is_stalled = end.taken_at + limits.stall_timeout <= now;
    let is_fair = match cause {
        Cause::Loss | Cause::Kill => true,
        Cause::Timeout { .. } => is_left || is_stalled,
        Cause::Input => is_left || refused,
        Cause::Accept | Cause::Send | Cause::Local | Cause::Other => is_left,
    };
    let mode = end.mode;
    ensure!(is_fair, "{mode} {id} is cut for no reason, at {cause:?}");
    end.excuse.get_or_insert("it was cut");
    end.spoils = true;
    Ok(())
}

/// What must hold for every end once nothing is under way; they are forgotten then.
///
/// # Errors
/// Somebody lacks something, and there is no reason for it.
pub(super) fn check_round(scene: &mut Scene) -> Result<()> {
    for (id, end) in &scene.ends {
        if end.app.is_complete() || end.excuse.is_some() || end.is_tainted {
            continue;
        }
        let partner = end.partner.or(end.heard_by);
        match partner.and_then(|id| scene.ends.get(&id)) {
            Some(partner) if partner.spoils || partner.is_tainted => {}
            Some(partner) => bail!("{}", describe(*id, end, partner)),
            None if end.mode == Mode::Source => {}
            None => ensure!(
                scene.breaks > 0,
                "destination {id} heard nobody, and nothing was lost"
            ),
        }
    }
    check_met(scene)?;
    let cut = scene.ends.values().filter(|end| !end.app.is_complete());
    scene.tally.cut += cut.count() as u64;
    scene.ends.clear();
    (scene.breaks, scene.refusals) = (0, 0);
    scene.is_tainted = false;
    Ok(())
}

/// Clients that were not lost met a server, whatever they heard of it, or were refused.
fn check_met(scene: &Scene) -> Result<()> {
    let strangers = scene.ends.iter();
    let strangers = strangers.filter(|(_, end)| end.partner.is_none() && end.heard_by.is_none());
    let (clients, servers): (Vec<_>, Vec<_>) =
        strangers.partition(|(_, end)| end.mode == Mode::Source);
    let unmet = clients.iter();
    let unmet = unmet.filter(|(_, end)| !end.spoils && !end.is_lost && !end.is_tainted);
    let unmet: Vec<u32> = unmet.map(|(id, _)| **id).collect();
    // Servers that were gone before they had heard anybody are as good as refusals.
    let gone = servers.iter().filter(|(_, end)| end.spoils).count();
    let refusals = scene.refusals + gone as u64;
    ensure!(
        unmet.len() as u64 <= refusals || scene.is_tainted,
        "sources {unmet:?} reached nobody, and only {refusals} were refused"
    );
    Ok(())
}

fn describe(id: u32, end: &End, partner: &End) -> String {
    format!(
        "{} {id} has not received everything, and there is no reason for it: its socket was {:?} and its \
         application {:?}; its partner has written all: {}, its socket was {:?}, its application {:?}, \
         excused: {:?}",
        end.mode,
        end.socket.told(),
        end.socket.app(),
        partner.app.is_written(),
        partner.socket.told(),
        partner.socket.app(),
        partner.excuse,
    )
}
