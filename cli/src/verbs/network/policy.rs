//! `network policy get|set|check|test|trace`.
//!
//! A file is judged here before anything is asked of the daemon, so a typing error has its line
//! and column with or without one.

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use sinew_control::api::{
    Action, Flow, FlowVerdict, NetworkQuery, Policy, PolicyInForce, PolicySet, PolicyTrace, PolicyVerdicts,
    Service,
};
use sinew_control::policy_file::{self, Mistake, PolicyFile};
use sinew_control::{ApiError, Exit, paths};

use crate::args::{Format, PolicyVerb};
use crate::client::{Client, PATIENCE};
use crate::output::{self, Out};
use crate::render;

/// What `check` found.
#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

#[derive(Serialize)]
struct Problem {
    line: usize,
    column: usize,
    problem: String,
    remedy: String,
}

#[derive(Serialize)]
struct Warning {
    line: usize,
    text: String,
}

/// What `test` found.
#[derive(Serialize)]
struct Tested {
    file: String,
    network: String,
    ok: bool,
    tests: Vec<TestResult>,
}

/// One expectation and what is.
#[derive(Serialize)]
pub(crate) struct TestResult {
    pub(crate) line: usize,
    pub(crate) ok: bool,
    pub(crate) expect: Action,
    #[serde(flatten)]
    pub(crate) verdict: FlowVerdict,
}

pub(super) async fn run(client: &Client, out: Out, verb: PolicyVerb) -> Result<Exit, ApiError> {
    match verb {
        PolicyVerb::Get { network } => get(client, out, network).await,
        PolicyVerb::Set { network, file } => set(client, out, network, &file).await,
        PolicyVerb::Check { file, network } => check(client, out, &file, network).await,
        PolicyVerb::Test { network, file } => test(client, out, network, &file).await,
        PolicyVerb::Trace { network, from, to, service, file } => {
            let policy = file.as_deref().map(accepted).transpose()?.map(|file| file.policy);
            trace(client, out, network, policy, from, to, service).await
        }
    }
}

async fn get(client: &Client, out: Out, network: String) -> Result<Exit, ApiError> {
    let query = NetworkQuery { network };
    let answer: PolicyInForce = client.post(paths::NETWORKS_POLICY, &query, PATIENCE).await?;
    out.object(&answer, || {
        let by = match (&answer.author, &answer.issued) {
            (Some(author), Some(issued)) => format!("# set by {author} at {issued}\n"),
            _ => "# never set: members reach each other\n".to_owned(),
        };
        by + &policy_file::write(&answer.policy)
    })?;
    Ok(Exit::Ok)
}

async fn set(client: &Client, out: Out, network: String, path: &Path) -> Result<Exit, ApiError> {
    let file = accepted(path)?;
    let (results, warnings) = judge(client, &network, &file).await?;
    if let Some(failed) = results.iter().find(|result| !result.ok) {
        let message = format!(
            "{}:{}: a test of this policy fails: {} ({})",
            path.display(),
            failed.line,
            render::network::flow(&failed.verdict),
            failed.verdict.why
        );
        let hint =
            format!("nothing was changed; `sinew network policy test {network} {}` runs all", path.display());
        return Err(ApiError::new("policy_test_failed", Exit::Usage, message, hint));
    }
    let request = PolicySet { network, policy: file.policy };
    let exit = super::change(
        client,
        out,
        paths::NETWORKS_POLICY_SET,
        &request,
        "policy set",
        "had this policy already",
    );
    let exit = exit.await?;
    if out.format == Format::Table {
        for warning in &warnings {
            output::note(&format!("{}:{}: {}", path.display(), warning.line, warning.text));
        }
    }
    Ok(exit)
}

async fn check(client: &Client, out: Out, path: &Path, network: Option<String>) -> Result<Exit, ApiError> {
    let name = path.display().to_string();
    let parsed = PolicyFile::parse(path, &read(path)?);
    let (mut text, mut warnings) = (String::new(), Vec::new());
    let problems = match &parsed {
        Ok(file) => {
            if let Some(network) = network {
                warnings = judge(client, &network, file).await?.1;
            }
            Vec::new()
        }
        Err(mistakes) => {
            text = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
            mistakes.iter().cloned().map(problem).collect()
        }
    };
    for warning in &warnings {
        text.push_str(&format!("{name}:{}: warning: {}\n", warning.line, render::printable(&warning.text)));
    }
    let ok = problems.is_empty();
    if ok {
        text.push_str(&format!("{name}: ok\n"));
    }
    out.object(&Checked { file: name, ok, problems, warnings }, || text)?;
    Ok(if ok { Exit::Ok } else { Exit::Usage })
}

fn problem(mistake: Mistake) -> Problem {
    let Mistake { line, column, problem, remedy, .. } = mistake;
    Problem { line, column, problem, remedy }
}

async fn test(client: &Client, out: Out, network: String, path: &Path) -> Result<Exit, ApiError> {
    let file = accepted(path)?;
    if file.tests.is_empty() {
        let hint = "add [[test]] sections: `sinew network policy test --help` shows one";
        return Err(ApiError::new("no_tests", Exit::Usage, format!("{} has no tests", path.display()), hint));
    }
    let (tests, _) = judge(client, &network, &file).await?;
    let ok = tests.iter().all(|test| test.ok);
    let tested = Tested { file: path.display().to_string(), network, ok, tests };
    out.list(&tested, &tested.tests, || render::network::tests(&tested.tests))?;
    Ok(if ok { Exit::Ok } else { Exit::Usage })
}

async fn trace(
    client: &Client,
    out: Out,
    network: String,
    policy: Option<Policy>,
    from: String,
    to: String,
    service: Service,
) -> Result<Exit, ApiError> {
    let Some((protocol, port)) = policy_file::one(&service) else {
        let message = format!("`{service}` is more than one flow");
        return Err(ApiError::invalid(message, "name one protocol and port, such as tcp/80"));
    };
    let request = PolicyTrace { network, policy, flows: vec![Flow { from, to, protocol, port }] };
    let mut answer: PolicyVerdicts = client.post(paths::NETWORKS_POLICY_TRACE, &request, PATIENCE).await?;
    let Some(verdict) = answer.verdicts.pop() else {
        return Err(ApiError::bad_answer("it gives no verdict"));
    };
    out.object(&verdict, || render::network::verdict(&verdict, out.wide))?;
    Ok(if verdict.allowed { Exit::Ok } else { Exit::Denied })
}

/// The file's tests and warnings, judged by the network's members and workloads.
async fn judge(
    client: &Client,
    network: &str,
    file: &PolicyFile,
) -> Result<(Vec<TestResult>, Vec<Warning>), ApiError> {
    let flows = file.tests.iter().map(|test| test.flow.clone()).collect();
    let request = PolicyTrace { network: network.to_owned(), policy: Some(file.policy.clone()), flows };
    let answer: PolicyVerdicts = client.post(paths::NETWORKS_POLICY_TRACE, &request, PATIENCE).await?;
    if answer.verdicts.len() != file.tests.len() {
        return Err(ApiError::bad_answer("it has not a verdict for each flow"));
    }
    let results = file.tests.iter().zip(answer.verdicts).map(|(test, verdict)| {
        let ok = verdict.allowed == (test.expect == Action::Allow);
        TestResult { line: test.line, ok, expect: test.expect, verdict }
    });
    let warnings = answer.warnings.into_iter().map(|warning| {
        let rule = usize::try_from(warning.rule).unwrap_or(0);
        let line = rule.checked_sub(1).and_then(|rule| file.rule_lines.get(rule)).copied().unwrap_or(1);
        Warning { line, text: warning.text }
    });
    Ok((results.collect(), warnings.collect()))
}

/// A file without mistakes, or all of them as one error.
fn accepted(path: &Path) -> Result<PolicyFile, ApiError> {
    PolicyFile::parse(path, &read(path)?).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        ApiError::new("bad_policy", Exit::Usage, lines.join("\n"), "nothing was changed")
    })
}

fn read(path: &Path) -> Result<String, ApiError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|error| ApiError::invalid(format!("cannot read {}: {error}", path.display()), ""))?;
    Ok(text)
}
