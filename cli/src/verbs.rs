//! What each verb does.

mod config;
mod dns;
mod gateway;
mod generate;
mod key;
mod lists;
mod network;
mod peers;
mod ping;
mod publish;
mod reach;
mod status;
mod trace;
mod wait;
mod workload;

pub(crate) use network::TestResult;
pub(crate) use publish::Applied;

use std::path::PathBuf;
use std::time::Duration;

use sinew_control::{ApiError, DEFAULT_SOCKET, Exit};

use crate::args::{Args, Verb};
use crate::client::Client;
use crate::output::Out;

/// Runs a verb to its exit code.
pub(crate) async fn run(args: Args, out: Out) -> Result<u8, ApiError> {
    if !matches!(args.verb, Verb::Graph) {
        out.refuse_pictures()?;
    }
    let socket = args.socket.or_else(|| std::env::var_os("SINEW_SOCKET").map(PathBuf::from));
    let client = Client::new(socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)));
    let exit = match args.verb {
        Verb::Workload(verb) => return workload::run(&client, out, verb).await,
        Verb::Key(verb) => key::run(&client, out, verb).await,
        Verb::Status(args) => status::run(&client, out, &args).await,
        Verb::Peers(args) => peers::run(&client, out, args.verb).await,
        Verb::Routes(args) => lists::routes(&client, out, args.verb).await,
        Verb::Sessions => lists::sessions(&client, out).await,
        Verb::Ping(args) => ping::run(&client, out, &args).await,
        Verb::Trace(args) => trace::run(&client, out, &args).await,
        Verb::Why { target } => reach::why(&client, out, target).await,
        Verb::Netcheck => reach::netcheck(&client, out).await,
        Verb::Doctor => reach::doctor(&client, out).await,
        Verb::Drops => lists::drops(&client, out).await,
        Verb::Graph => lists::graph(&client, out).await,
        Verb::Config(verb) => config::run(&client, out, verb).await,
        Verb::Invite(args) => status::invite(&client, out, &args).await,
        Verb::Wait(args) => wait::run(&client, out, &args).await,
        Verb::Completions { shell } => generate::completions(shell),
        Verb::Man { dir } => generate::man(&dir),
        Verb::Network(verb) => network::run(&client, out, verb).await,
        Verb::Expose(command) => publish::expose(&client, out, *command).await,
        Verb::Unexpose(args) => publish::unexpose(&client, out, args).await,
        Verb::Apply(args) => publish::apply(&client, out, args).await,
        Verb::Dns(verb) => dns::run(&client, out, verb).await,
        Verb::Gateway(verb) => gateway::run(&client, out, verb).await,
    };
    exit.map(Exit::code)
}

/// Whole milliseconds of a number of seconds that the arguments have checked.
fn millis(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap_or(u64::MAX)
}
