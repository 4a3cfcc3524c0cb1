//! The file of `sinew apply`: services as TOML, each as `sinew expose` would ask for it.
//!
//! ```toml
//! network = "shop"
//! via = "gw1"
//!
//! [[service]]
//! hosts = ["app", "www.example.org"]
//! backends = ["web:8080", "web2:8080*3"]
//!
//! [service.settings]
//! check = { path = "/health" }
//! ```

use std::path::Path;

use serde::Deserialize;

use crate::ApiError;
use crate::api::{Expose, ExposeBackend, PublishMode, Settings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    network: Option<String>,
    #[serde(default)]
    via: Option<String>,
    #[serde(default)]
    service: Vec<toml::Spanned<Service>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    #[serde(default)]
    network: Option<String>,
    #[serde(default)]
    via: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    mode: PublishMode,
    #[serde(default)]
    hosts: Vec<String>,
    backends: Vec<String>,
    #[serde(default)]
    settings: Settings,
}

/// `WORKLOAD:PORT`, and `*WEIGHT` behind it; without, 1.
///
/// # Errors
/// How it is written.
pub fn backend(text: &str) -> Result<ExposeBackend, String> {
    let wrong = || format!("`{text}` is no backend; write WORKLOAD:PORT or WORKLOAD:PORT*WEIGHT");
    let (place, weight) = text.split_once('*').map_or((text, Ok(1)), |(place, w)| (place, w.parse()));
    let (workload, port) = place.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
    let weight = weight.ok().filter(|&weight| weight <= 1000).ok_or_else(wrong)?;
    if workload.is_empty() {
        return Err(wrong());
    }
    Ok(ExposeBackend { workload: workload.to_owned(), port, weight })
}

/// Reads the whole file.
///
/// # Errors
/// With file, line and what is wrong there.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Expose>, ApiError> {
    let at = |offset: usize, why: &str| {
        let line = text.get(..offset).unwrap_or(text).matches('\n').count() + 1;
        ApiError::bad_config(format!("{}:{line}: {why}", path.display()))
    };
    let file: File = toml::from_str(text)
        .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut all: Vec<Expose> = Vec::new();
    for spanned in file.service {
        let start = spanned.span().start;
        let service = spanned.into_inner();
        let network = service.network.or_else(|| file.network.clone());
        let via = service.via.or_else(|| file.via.clone());
        let backends: Result<Vec<_>, String> = service.backends.iter().map(|text| backend(text)).collect();
        let expose = Expose {
            network: Some(
                network.ok_or_else(|| at(start, "the service has no `network`, nor has the file"))?,
            ),
            name: service.name,
            via: via.ok_or_else(|| at(start, "the service has no gateway (`via`), nor has the file"))?,
            mode: service.mode,
            hosts: service.hosts,
            backends: backends.map_err(|why| at(start, &why))?,
            settings: service.settings,
            wait_ms: 0,
            dry_run: false,
        };
        expose.check().map_err(|why| at(start, &why))?;
        all.push(expose);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
network = "shop"
via = "gw1"

[[service]]
hosts = ["app", "www.example.org"]
backends = ["web:8080", "web2:8080*3"]
settings = { check = { path = "/health" }, access = { rate = { per_second = 5, burst = 9 } } }

[[service]]
name = "db"
mode = "tcp"
via = "gw2"
backends = ["db:5432"]
"#;

    #[test]
    fn services_take_what_the_file_says_for_all() {
        let all = parse(Path::new("s.toml"), GOOD).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].via.as_str(), all[1].via.as_str()), ("gw1", "gw2"));
        let second = ExposeBackend { workload: "web2".into(), port: 8080, weight: 3 };
        assert_eq!((all[0].backends.len(), &all[0].backends[1]), (2, &second));
        assert_eq!(all[1].mode, PublishMode::Tcp);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, line, word) in [
            ("network = 'a'\nvia = 'b'\n[[service]]\nhosts = ['x']\nbackends = ['w']\n", 3, "WORKLOAD:PORT"),
            ("via = 'b'\n\n[[service]]\nhosts = ['x']\nbackends = ['w:1']\n", 3, "network"),
            ("network = 'a'\n[[service]]\nhosts = ['x']\nbackends = ['w:1']\n", 2, "gateway"),
            ("network = 'a'\nvia = 'b'\n[[service]]\nbackends = ['w:1']\n", 3, "--name or a --host"),
            ("network = 'a'\nvia = 'b'\n[[service]]\nhost = 'x'\nbackends = ['w:1']\n", 4, "unknown field"),
        ] {
            let error = parse(Path::new("s.toml"), text).unwrap_err();
            assert!(error.message.starts_with(&format!("s.toml:{line}: ")), "{text}: {}", error.message);
            assert!(error.message.contains(word), "{text}: {}", error.message);
        }
    }

    #[test]
    fn a_backend_has_a_port_and_perhaps_a_weight() {
        for wrong in ["", "web", "web:", ":80", "web:0", "web:70000", "web:80*", "web:80*1001", "web:80*-1"] {
            assert!(backend(wrong).is_err(), "{wrong}");
        }
        assert_eq!(backend("web.a1b2c3d4e5:80").unwrap().workload, "web.a1b2c3d4e5");
    }
}
