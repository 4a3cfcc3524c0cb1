//! `network`: what needs no signature of the owner; the rest is in the modules below.

mod create;
mod documents;
mod owner;
mod policy;

pub(crate) use policy::TestResult;

use std::io::Read as _;
use std::time::Duration;

use serde::Serialize;
use sinew_control::api::{
    Approve, Invitation, InviteRequest, JoinRequest, JoinRequests, Joined, Member, Network, NetworkChanged,
    NetworkQuery, NetworkState, Networks, Revoke, TicketMode,
};
use sinew_control::{ApiError, Exit, paths};
use zeroize::Zeroizing;

use super::millis;
use crate::args::{Format, JoinArgs, NetworkInviteArgs, NetworkVerb};
use crate::client::{Client, PATIENCE};
use crate::output::{self, Out};
use crate::render;

/// A change is told to members before the answer comes.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
/// Longest ticket that is read, bytes; real ones are a tenth of it.
const TICKET_MAX: u64 = 16 * 1024;

pub(super) async fn run(client: &Client, out: Out, verb: NetworkVerb) -> Result<Exit, ApiError> {
    match verb {
        NetworkVerb::Ls => {
            let answer: Networks = client.get(paths::NETWORKS).await?;
            out.list(&answer, &answer.networks, || render::network::list(&answer.networks, out.wide))?;
            Ok(Exit::Ok)
        }
        NetworkVerb::Show { network } => {
            let answer = show(client, network).await?;
            out.object(&answer, || render::network::show(&answer, out.wide))?;
            Ok(Exit::Ok)
        }
        NetworkVerb::Members { network } => members(client, out, network).await,
        NetworkVerb::Invite(args) => invite(client, out, args).await,
        NetworkVerb::Join(args) => join(client, out, args).await,
        NetworkVerb::Requests { network } => {
            let query = NetworkQuery { network };
            let answer: JoinRequests = client.post(paths::NETWORKS_REQUESTS, &query, PATIENCE).await?;
            out.list(&answer, &answer.requests, || render::network::requests(&answer.requests))?;
            Ok(Exit::Ok)
        }
        NetworkVerb::Approve { network, member, groups } => {
            let request = Approve { network, member, groups };
            change(client, out, paths::NETWORKS_APPROVE, &request, "admitted", "was a member already").await
        }
        NetworkVerb::Revoke { network, subject } => {
            let request = Revoke { network, subject };
            change(client, out, paths::NETWORKS_REVOKE, &request, "revoked", "was revoked already").await
        }
        NetworkVerb::Leave { network } => {
            let request = NetworkQuery { network };
            change(client, out, paths::NETWORKS_LEAVE, &request, "left", "was left already").await
        }
        NetworkVerb::Create(args) => create::run(client, out, args).await,
        NetworkVerb::Admin(verb) => owner::run(client, out, verb).await,
        NetworkVerb::Policy(verb) => policy::run(client, out, verb).await,
        NetworkVerb::Documents(verb) => documents::run(client, out, verb).await,
    }
}

async fn show(client: &Client, network: String) -> Result<Network, ApiError> {
    client.post(paths::NETWORKS_SHOW, &NetworkQuery { network }, PATIENCE).await
}

/// The members of a network, as an object of its own.
#[derive(Serialize)]
struct Members<'a> {
    network: &'a str,
    members: &'a [Member],
}

async fn members(client: &Client, out: Out, network: String) -> Result<Exit, ApiError> {
    let answer = show(client, network).await?;
    let members = Members { network: &answer.summary.name, members: &answer.members };
    out.list(&members, members.members, || render::network::members(members.members, out.wide))?;
    Ok(Exit::Ok)
}

/// A change that the daemon signs and spreads.
async fn change(
    client: &Client,
    out: Out,
    path: &str,
    request: &impl Serialize,
    done: &str,
    already: &str,
) -> Result<Exit, ApiError> {
    let changed: NetworkChanged = client.post(path, request, CHANGE_PATIENCE).await?;
    out.object(&changed, || render::network::changed(&changed, done, already))?;
    Ok(Exit::Ok)
}

async fn invite(client: &Client, out: Out, args: NetworkInviteArgs) -> Result<Exit, ApiError> {
    let request = InviteRequest {
        network: args.network,
        for_node: args.for_node,
        uses: args.uses,
        expires_ms: millis(args.expires.as_secs_f64()),
        groups: args.groups,
        approval: args.approval,
        bearer: args.bearer,
    };
    let invitation: Invitation = client.post(paths::NETWORKS_INVITE, &request, CHANGE_PATIENCE).await?;
    out.object(&invitation, || format!("{}\n", invitation.ticket))?;
    if out.format == Format::Table {
        remark(&invitation);
    }
    Ok(Exit::Ok)
}

/// What the ticket can promise, beside it: stdout holds the ticket alone.
fn remark(invitation: &Invitation) {
    let uses = match (invitation.mode, invitation.uses) {
        (TicketMode::Pinned, _) => "for that node only".to_owned(),
        (_, 1) => "for one node".to_owned(),
        (_, uses) => format!("for {uses} nodes"),
    };
    let mode = invitation.mode.as_str();
    output::note(&format!("{mode} ticket for {}, {uses}, until {}", invitation.network, invitation.expires));
    if !invitation.note.is_empty() {
        output::note(&invitation.note);
    }
    if invitation.mode != TicketMode::Pinned {
        output::note(
            "it is a secret: send it over a channel that you trust, and join with `sinew network join -`",
        );
    }
}

async fn join(client: &Client, out: Out, args: JoinArgs) -> Result<Exit, ApiError> {
    let mut text = ticket(&args.ticket)?;
    let timeout_ms = millis(args.timeout);
    let request = JoinRequest { ticket: std::mem::take(&mut *text), name: args.name, timeout_ms };
    let patience = Duration::from_millis(timeout_ms) + PATIENCE;
    let joined: Result<Joined, ApiError> = client.post(paths::NETWORKS_JOIN, &request, patience).await;
    // The request's copy goes the way of the others.
    drop(Zeroizing::new(request.ticket));
    let joined = joined?;
    out.object(&joined, || render::network::joined(&joined))?;
    Ok(if joined.state == NetworkState::Ready { Exit::Ok } else { Exit::Degraded })
}

/// The ticket that an argument names: itself, `@FILE`, or `-` for stdin.
fn ticket(argument: &str) -> Result<Zeroizing<String>, ApiError> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(TICKET_MAX).unwrap_or(0)));
    let read = if argument == "-" {
        std::io::stdin().lock().take(TICKET_MAX).read_to_string(&mut text)
    } else if let Some(path) = argument.strip_prefix('@') {
        std::fs::File::open(path).and_then(|file| file.take(TICKET_MAX).read_to_string(&mut text))
    } else {
        text.push_str(argument);
        Ok(argument.len())
    };
    read.map_err(|error| ApiError::invalid(format!("cannot read the ticket: {error}"), ""))?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(ApiError::bad_ticket("there is none"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::ticket;

    #[test]
    fn a_ticket_is_given_or_read() {
        assert_eq!(ticket("sinewnet1abc").unwrap().as_str(), "sinewnet1abc");
        let file = std::env::temp_dir().join(format!("sinew-ticket-{}", std::process::id()));
        std::fs::write(&file, "  sinewnet1xyz\n\n").unwrap();
        assert_eq!(ticket(&format!("@{}", file.display())).unwrap().as_str(), "sinewnet1xyz");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(ticket(&format!("@{}", file.display())).unwrap_err().code, "bad_ticket");
        std::fs::remove_file(file).unwrap();
        assert!(ticket("@/nonexistent").unwrap_err().message.contains("cannot read the ticket"));
    }
}
