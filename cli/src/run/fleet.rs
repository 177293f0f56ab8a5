//! Runs the commands that manage tunnels and things.

use std::future::Future;
use std::io::{self, Write as _};

use super::runtime;
use crate::exit::ExitCode;
use crate::fleet::settings::{ConnectSettings, SshSettings, ThingSettings, TunnelSettings};
use crate::fleet::{self, Trouble};
use crate::world::World;

/// Manages tunnels.
pub fn tunnel(settings: TunnelSettings, world: &World) -> ExitCode {
    let paper = fleet::Paper::of_stdout(world);
    finish(async {
        fleet::tunnel(settings, paper)
            .await
            .map(|()| ExitCode::Ended)
    })
}

/// Manages things.
pub fn thing(settings: ThingSettings, world: &World) -> ExitCode {
    let paper = fleet::Paper::of_stdout(world);
    finish(async {
        fleet::thing(settings, paper)
            .await
            .map(|()| ExitCode::Ended)
    })
}

/// Runs ssh to a thing.
pub fn ssh(settings: SshSettings) -> ExitCode {
    finish(fleet::ssh(settings))
}

/// Holds ports open that lead to a thing.
pub fn connect(settings: ConnectSettings) -> ExitCode {
    finish(fleet::connect(settings))
}

fn finish(command: impl Future<Output = Result<ExitCode, Trouble>>) -> ExitCode {
    let ended = runtime::run(command)
        .unwrap_or_else(|fault| Err(Trouble::failure(format_args!("cannot start: {fault}"))));
    ended.unwrap_or_else(|trouble| {
        let _ = io::stderr().write_all(trouble.report().as_bytes());
        trouble.code()
    })
}
