//! `trace`: every hop by its own signed word.

use std::time::Duration;

use sinew_control::api::{Trace, TraceRequest};
use sinew_control::{ApiError, Exit, paths};

use super::millis;
use crate::args::TraceArgs;
use crate::client::Client;
use crate::output::Out;
use crate::render;

/// Hops that a packet may take (the hop limit); bounds how long a trace may last.
const HOPS_MAX: u32 = 64;

pub(super) async fn run(client: &Client, out: Out, args: &TraceArgs) -> Result<Exit, ApiError> {
    let request = TraceRequest { target: args.target.clone(), timeout_ms: millis(args.timeout) };
    let patience = Duration::from_secs_f64(args.timeout) * HOPS_MAX;
    let trace: Trace = client.post(paths::TRACE, &request, patience).await?;
    out.list(&trace, &trace.hops, || render::hops(&trace))?;
    if trace.reached {
        return Ok(Exit::Ok);
    }
    let why = trace.error.unwrap_or_else(|| "the last hop gave no answer".to_owned());
    let message = format!("{} was not reached: {}", render::printable(&args.target), render::printable(&why));
    let hint = "the hops above answered; `sinew routes get` on the last one says where it would send packets";
    Err(ApiError::new(
        "not_reached",
        Exit::Unreachable,
        message,
        if trace.hops.is_empty() { "" } else { hint },
    ))
}
