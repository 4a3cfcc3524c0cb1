//! `config check|diff|show|reload`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sinew_control::api::{LoadedConfig, Reload};
use sinew_control::config::{self, Change, ConfigError, ConfigFile};
use sinew_control::{ApiError, Exit, paths};
use sinew_platform::keyfile;
use sinew_types::Identity;

use crate::args::ConfigVerb;
use crate::client::{Client, PATIENCE};
use crate::output::Out;
use crate::render;

#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    line: Option<usize>,
    key: String,
    problem: String,
    remedy: String,
}

#[derive(Serialize)]
struct Difference {
    file: String,
    changes: Vec<Change>,
}

pub(super) async fn run(client: &Client, out: Out, verb: ConfigVerb) -> Result<Exit, ApiError> {
    match verb {
        ConfigVerb::Check { file } => check(out, &chosen(client, file).await?),
        ConfigVerb::Diff { file } => diff(client, out, file).await,
        ConfigVerb::Show => {
            let loaded: LoadedConfig = client.get(paths::CONFIG).await?;
            out.object(&loaded, || {
                format!("# {}, loaded {}\n{}", loaded.file, loaded.loaded_at, loaded.text)
            })?;
            Ok(Exit::Ok)
        }
        ConfigVerb::Reload => {
            let reload: Reload = client.post(paths::CONFIG_RELOAD, &serde_json::json!({}), PATIENCE).await?;
            out.list(&reload, &reload.changes, || render::changes(&reload.changes))?;
            Ok(Exit::Ok)
        }
    }
}

/// The named file, or the daemon's.
async fn chosen(client: &Client, file: Option<PathBuf>) -> Result<PathBuf, ApiError> {
    match file {
        Some(file) => Ok(file),
        None => client.get::<LoadedConfig>(paths::CONFIG).await.map(|loaded| PathBuf::from(loaded.file)),
    }
}

fn check(out: Out, file: &Path) -> Result<Exit, ApiError> {
    let found = judged(file).err().map_or_else(Vec::new, |error| error.diagnostics);
    let text: String = found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    let ok = found.is_empty();
    let problems = found
        .into_iter()
        .map(|d| Problem { line: d.line, key: d.key, problem: d.problem, remedy: d.remedy })
        .collect();
    let file = file.display().to_string();
    let checked = Checked { file, ok, problems };
    out.object(&checked, || if ok { format!("{}: ok\n", checked.file) } else { text })?;
    Ok(if ok { Exit::Ok } else { Exit::Usage })
}

/// The rules of the file, and of the key it names where this user may read that.
fn judged(file: &Path) -> Result<(), ConfigError> {
    let file = ConfigFile::read(file)?;
    match keyfile::load(&file.config.node.key_file) {
        Ok(seed) => file.check_identity(&Identity::from_seed(*seed).node_id()),
        Err(_) => Ok(()),
    }
}

async fn diff(client: &Client, out: Out, file: Option<PathBuf>) -> Result<Exit, ApiError> {
    let loaded: LoadedConfig = client.get(paths::CONFIG).await?;
    let path = file.unwrap_or_else(|| PathBuf::from(&loaded.file));
    let running = ConfigFile::parse(Path::new(&loaded.file), loaded.text).map_err(refused)?;
    let wanted = ConfigFile::read(&path).map_err(refused)?;
    let changes = config::diff(&running.config, &wanted.config);
    let difference = Difference { file: path.display().to_string(), changes };
    out.list(&difference, &difference.changes, || render::changes(&difference.changes))?;
    Ok(Exit::Ok)
}

fn refused(error: ConfigError) -> ApiError {
    ApiError::new("bad_config", Exit::Usage, error.to_string(), "")
}
