//! Verbs that show a table of the daemon's: routes, sessions, drops, graph.

use sinew_control::api::{Drops, Graph, RouteAnswer, RouteQuery, Routes, Sessions};
use sinew_control::{ApiError, Exit, paths};

use crate::args::{Format, RoutesVerb};
use crate::client::{Client, PATIENCE};
use crate::output::{self, Out};
use crate::render;

pub(super) async fn routes(client: &Client, out: Out, verb: Option<RoutesVerb>) -> Result<Exit, ApiError> {
    let show = match verb {
        Some(RoutesVerb::Get { target }) => return route(client, out, target).await,
        None | Some(RoutesVerb::Selected) => "selected",
        Some(RoutesVerb::All) => "all",
    };
    let answer: Routes = client.get(&format!("{}?show={show}", paths::ROUTES)).await?;
    out.list(&answer, &answer.routes, || render::routes(&answer.routes, out.wide))?;
    Ok(Exit::Ok)
}

async fn route(client: &Client, out: Out, target: String) -> Result<Exit, ApiError> {
    let answer: RouteAnswer = client.post(paths::ROUTES_GET, &RouteQuery { target }, PATIENCE).await?;
    out.object(&answer, || render::route_answer(&answer, out.wide))?;
    Ok(if answer.reachable { Exit::Ok } else { Exit::Unreachable })
}

pub(super) async fn sessions(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let answer: Sessions = client.get(paths::SESSIONS).await?;
    out.list(&answer, &answer.sessions, || render::sessions(&answer.sessions, out.wide))?;
    Ok(Exit::Ok)
}

pub(super) async fn drops(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let answer: Drops = client.get(paths::DROPS).await?;
    out.list(&answer, &answer.drops, || render::drops(&answer))?;
    Ok(Exit::Ok)
}

pub(super) async fn graph(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let graph: Graph = client.get(paths::GRAPH).await?;
    match out.format {
        Format::Dot => output::write(&render::graph::dot(&graph))?,
        Format::Svg => output::write(&render::svg(&graph))?,
        _ => out.object(&graph, || render::graph::table(&graph))?,
    }
    Ok(Exit::Ok)
}
