//! `workload run`: a supervisor around one program.
//!
//! ```text
//! room made ─▶ namespace sent to the daemon ─▶ program started ─▶ signals, leases ─▶ end ─▶ detached
//! ```
//! The daemon watches this process: if it is killed, the program dies with it and the daemon
//! detaches by itself.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use sinew_control::api::{AttachedBy, Watch, interface_pins, leading_out};
use sinew_control::resolv::resolv_conf;
use sinew_control::{ApiError, Exit};
use sinew_platform::netns::unpin;
use sinew_platform::process;
use sinew_platform::room::{Occupied, Room, Sight};
use sinew_platform::signals::Signals;

use super::lease::Leases;
use super::{needs_root, not_started};
use crate::args::RunArgs;
use crate::client::Client;
use crate::output;

/// Added to the number of the signal that ended the program, as shells do.
const SIGNALLED: i32 = 128;

pub(super) async fn run(client: &Client, args: RunArgs) -> Result<u8, ApiError> {
    let system = |error: std::io::Error| ApiError::invalid(format!("cannot supervise: {error}"), "");
    let pid = std::process::id();
    let watch = Watch { pid, start_ticks: process::start_ticks(pid).map_err(system)? };
    let watched = process::pidfd(pid).map_err(system)?;
    let mut request = super::request(args.place, AttachedBy::Run);
    request.watch = Some(watch);
    let leases = match args.key {
        None => None,
        Some(file) => {
            let networks = request.networks.iter().map(|on| on.network.clone()).collect();
            let leases = Leases::new(&file, networks)?;
            request.key = Some(leases.key());
            request.leases = leases.sign(client).await?;
            Some(leases)
        }
    };
    // Before the room's thread, so that it and no other is left to be ended by a signal.
    let signals = Signals::catch().map_err(system)?;
    let room = Room::new().map_err(|error| needs_root(&error))?;
    let answer = super::send(client, &request, room.namespace(), Some(&watched))?;
    let resolv_conf = (!answer.resolvers.is_empty()).then(|| resolv_conf(&answer.resolvers, &answer.search));
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(ApiError::bad_request("no command"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let sight = Sight { resolv_conf, hidden: leading_out(client.socket()) };
    let ended = match room.run(command, sight) {
        Ok(occupied) => supervise(client, occupied, &signals, &answer.id, leases).await.map_err(system),
        Err(error) => Err(not_started(program, &error)),
    };
    if let Err(error) = super::detach(client, answer.id.clone()).await
        && Exit::from_code(error.exit) == Exit::NotRunning
    {
        // A daemon that is back sees that we are gone; the namespace need not wait for that.
        interface_pins(client.socket(), &answer.id, answer.interfaces.len())
            .iter()
            .for_each(|pin| unpin(pin));
    }
    ended.map(code)
}

/// Passes signals on and renews leases until the program has ended.
async fn supervise(
    client: &Client,
    occupied: Occupied,
    signals: &Signals,
    id: &str,
    leases: Option<Leases>,
) -> std::io::Result<ExitStatus> {
    let renewals = renew(client, id, leases);
    tokio::pin!(renewals);
    loop {
        tokio::select! {
            ended = occupied.ended() => {
                ended?;
                break;
            }
            arrived = signals.next() => {
                let arrived = arrived?;
                if arrived.to_us_alone {
                    occupied.signal(arrived.number);
                }
            }
            () = &mut renewals => {}
        }
    }
    occupied.status()
}

/// Renews leases for ever; beside the rest, since a daemon may take its time to answer.
async fn renew(client: &Client, id: &str, leases: Option<Leases>) {
    let Some(leases) = leases else { return std::future::pending().await };
    loop {
        tokio::time::sleep(leases.interval()).await;
        if let Err(error) = leases.renew(client, id).await {
            output::note(&format!("the lease was not renewed: {error}"));
        }
    }
}

/// The program's exit code, or 128 + the signal that ended it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_a_shell() {
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }
}
