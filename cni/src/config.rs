//! A network's configuration, as administrators write it and runtimes complete it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sinew_control::DEFAULT_SOCKET;
use sinew_types::Label;

use crate::error::{CniError, Code};
use crate::invocation::Invocation;
use crate::result::Outcome;

/// Versions of the specification that this plugin speaks, oldest first.
pub(crate) const SUPPORTED: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];
/// What a configuration without a version means.
const UNSTATED: &str = "0.1.0";
/// How much of a container's id names a workload.
const ID_PREFIX: usize = 12;
/// Longest DNS label.
const LABEL_MAX: usize = 63;

/// The whole configuration of one network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) version: String,
    /// The runtime's name for the network, which tags all that is attached by it.
    pub(crate) name: String,
    /// Sinew's networks: id, unique beginning of one, or name. At least one.
    pub(crate) networks: Vec<String>,
    pub(crate) socket: PathBuf,
    pub(crate) groups: Vec<String>,
    /// How workloads are called.
    template: Option<String>,
    /// What plugins before this one made.
    pub(crate) previous: Option<Outcome>,
    /// Addresses that the runtime asks for.
    ips: Vec<String>,
    /// GC: what is to stay, container and interface.
    pub(crate) valid: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    #[serde(default)]
    name: String,
    network: Option<OneOrMore>,
    socket: Option<PathBuf>,
    #[serde(default)]
    groups: Vec<String>,
    workload: Option<String>,
    ipam: Option<Value>,
    prev_result: Option<Value>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    #[serde(default)]
    args: Args,
    /// The alias is what the first runtimes with GC wrote.
    #[serde(rename = "cni.dev/valid-attachments", alias = "cni.dev/attachments")]
    valid: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    ips: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: RuntimeConfig,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

/// The version that answers have, also when the configuration is refused.
pub(crate) fn version_of(text: &[u8]) -> String {
    let value: Value = serde_json::from_slice(text).unwrap_or_default();
    let stated = value.get("cniVersion").and_then(Value::as_str).unwrap_or(UNSTATED);
    stated.chars().filter(|c| c.is_ascii_graphic()).take(16).collect()
}

/// The answer to VERSION.
pub(crate) fn versions(text: &[u8]) -> String {
    let version = if text.trim_ascii().is_empty() {
        SUPPORTED[SUPPORTED.len() - 1].to_owned()
    } else {
        version_of(text)
    };
    serde_json::json!({"cniVersion": version, "supportedVersions": SUPPORTED}).to_string() + "\n"
}

impl Config {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, CniError> {
        let raw: Raw = serde_json::from_slice(text).map_err(|error| {
            CniError::new(Code::Decode, format!("the configuration is not understood: {error}"), "")
        })?;
        let version = raw.cni_version.unwrap_or_else(|| UNSTATED.to_owned());
        if !SUPPORTED.contains(&version.as_str()) {
            let message = format!("CNI version {version} is not supported");
            return Err(CniError::new(
                Code::Version,
                message,
                format!("write one of {}", SUPPORTED.join(", ")),
            ));
        }
        if !is_name(&raw.name) {
            let message = format!("`{}` is no name of a network", raw.name.escape_debug());
            return Err(CniError::config(
                message,
                "\"name\": letters, digits, `_`, `.` and `-`, at most 128",
            ));
        }
        let networks = match raw.network {
            Some(OneOrMore::One(network)) => vec![network],
            Some(OneOrMore::More(networks)) => networks,
            None => vec![],
        };
        if networks.is_empty() || networks.iter().any(String::is_empty) {
            let details =
                "add \"network\": the name or id of a private network (`sinew network ls`), or a list";
            return Err(CniError::config("the configuration names no network", details));
        }
        if raw
            .ipam
            .as_ref()
            .and_then(|ipam| ipam.get("type"))
            .and_then(Value::as_str)
            .is_some_and(|t| !t.is_empty())
        {
            let details = "remove it: addresses come from the network's own plan";
            return Err(CniError::config(
                "an `ipam` plugin cannot give addresses of a private network",
                details,
            ));
        }
        let previous = raw.prev_result.map(|value| Outcome::read(&value)).transpose()?;
        let mut ips = raw.runtime_config.ips;
        ips.extend(raw.args.cni.ips);
        let pair = |attachment: Attachment| (attachment.container, attachment.ifname);
        Ok(Self {
            version,
            name: raw.name,
            networks,
            socket: raw.socket.unwrap_or_else(|| Path::new(DEFAULT_SOCKET).to_owned()),
            groups: raw.groups,
            template: raw.workload,
            previous,
            ips,
            valid: raw.valid.map(|list| list.into_iter().map(pair).collect()),
        })
    }

    /// What finds an attachment again, by which GC also knows its own.
    pub(crate) fn tag(&self, container: &str, interface: &str) -> String {
        format!("{}{container}:{interface}", self.tag_prefix())
    }

    /// The beginning of all tags of this network.
    pub(crate) fn tag_prefix(&self) -> String {
        format!("cni:{}:", self.name)
    }

    /// The IPv4 address that the runtime wants, if it wants one.
    pub(crate) fn ipv4(&self, invocation: &Invocation) -> Result<Option<std::net::Ipv4Addr>, CniError> {
        let by_args = invocation.arg("IP").map(str::to_owned);
        let mut wanted = None;
        for text in self.ips.iter().chain(&by_args) {
            let plain = text.split('/').next().unwrap_or(text);
            match plain.parse() {
                Ok(IpAddr::V4(v4)) if wanted.is_none() => wanted = Some(v4),
                Ok(IpAddr::V4(_)) => {
                    return Err(CniError::config("more than one IPv4 address was asked for", "ask for one"));
                }
                Ok(IpAddr::V6(_)) => {
                    let details = "leave it out: the IPv6 address follows from the IPv4 address";
                    return Err(CniError::config(format!("{plain} cannot be asked for"), details));
                }
                Err(_) => {
                    return Err(CniError::config(format!("`{}` is no address", text.escape_debug()), ""));
                }
            }
        }
        Ok(wanted)
    }

    /// What the container is called in the networks: the template, or the pod's name and namespace,
    /// or the beginning of the container's id; made a DNS label.
    pub(crate) fn workload(&self, invocation: &Invocation) -> Result<String, CniError> {
        let id: String = invocation.container.chars().take(ID_PREFIX).collect();
        let pod = invocation.arg("K8S_POD_NAME");
        let namespace = invocation.arg("K8S_POD_NAMESPACE");
        let text = match (&self.template, pod, namespace) {
            (Some(template), ..) => template
                .replace("{pod}", pod.unwrap_or(&id))
                .replace("{namespace}", namespace.unwrap_or_default())
                .replace("{container}", &id)
                .replace("{interface}", &invocation.interface),
            // podman says a container's name for both.
            (None, Some(pod), Some(namespace)) if namespace != "default" && namespace != pod => {
                format!("{pod}-{namespace}")
            }
            (None, Some(pod), _) => pod.to_owned(),
            (None, None, _) => id,
        };
        let label = label(&text);
        if label.parse::<Label>().is_err() {
            let message = format!("`{}` makes no name for a workload", text.escape_debug());
            return Err(CniError::config(
                message,
                "a template of letters, digits, {pod}, {namespace}, {container}",
            ));
        }
        Ok(label)
    }
}

/// What the specification takes as a network's name. Tags, and so file names, begin with it.
fn is_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.len() <= 128 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(rest)
}

/// A DNS label as near to `text` as possible.
fn label(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = text.chars().map(plain).collect();
    let label: String = label.trim_matches('-').chars().take(LABEL_MAX).collect();
    label.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Command;

    fn parse(rest: &str) -> Result<Config, CniError> {
        Config::parse(format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"sinew-cni",{rest}}}"#).as_bytes())
    }

    fn invocation(args: &[(&str, &str)]) -> Invocation {
        Invocation {
            command: Command::Add,
            container: "0123456789abcdef".to_owned(),
            netns: None,
            interface: "eth1".to_owned(),
            args: args.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    #[test]
    fn a_configuration_names_a_network_or_several() {
        assert_eq!(parse(r#""network":"shop""#).unwrap().networks, ["shop"]);
        assert_eq!(parse(r#""network":["shop","lab"]"#).unwrap().networks, ["shop", "lab"]);
        assert_eq!(parse(r#""network":"shop""#).unwrap().socket, Path::new(DEFAULT_SOCKET));
        for (wrong, code) in [
            (r#""x":1"#, Code::Config),
            (r#""network":[]"#, Code::Config),
            (r#""network":5"#, Code::Decode),
            (r#""network":"shop","ipam":{"type":"host-local"}"#, Code::Config),
        ] {
            assert_eq!(parse(wrong).unwrap_err().code, code, "{wrong}");
        }
        assert!(parse(r#""network":"shop","ipam":{}"#).is_ok());
        assert_eq!(Config::parse(b"{").unwrap_err().code, Code::Decode);
    }

    #[test]
    fn old_and_future_versions_are_told_what_is_spoken() {
        for (version, fine) in
            [("0.3.1", false), ("0.4.0", true), ("1.0.0", true), ("1.1.0", true), ("2.0.0", false)]
        {
            let text = format!(r#"{{"cniVersion":"{version}","name":"n","network":"shop"}}"#);
            let parsed = Config::parse(text.as_bytes());
            assert_eq!(
                parsed.as_ref().err().map(|error| error.code),
                (!fine).then_some(Code::Version),
                "{version}"
            );
        }
        let unstated = Config::parse(br#"{"name":"n","network":"shop"}"#).unwrap_err();
        assert!(unstated.message.contains("0.1.0") && unstated.details.contains("1.1.0"), "{unstated:?}");
        let answer: Value = serde_json::from_str(&versions(br#"{"cniVersion":"0.4.0"}"#)).unwrap();
        assert_eq!(answer["cniVersion"], "0.4.0");
        assert_eq!(answer["supportedVersions"], serde_json::json!(SUPPORTED));
    }

    #[test]
    fn a_workload_is_called_by_its_pod_its_template_or_its_container() {
        let config = |template: &str| parse(&format!(r#""network":"shop"{template}"#)).unwrap();
        let pod = [("K8S_POD_NAME", "Web_0"), ("K8S_POD_NAMESPACE", "prod")];
        for (template, args, name) in [
            ("", &pod[..], "web-0-prod"),
            ("", &[("K8S_POD_NAME", "web"), ("K8S_POD_NAMESPACE", "web")], "web"),
            ("", &[("K8S_POD_NAME", "web"), ("K8S_POD_NAMESPACE", "default")], "web"),
            ("", &[], "0123456789ab"),
            (r#","workload":"{pod}""#, &pod, "web-0"),
            (r#","workload":"db-{interface}""#, &[], "db-eth1"),
            (r#","workload":"{namespace}.{container}""#, &pod, "prod-0123456789ab"),
        ] {
            assert_eq!(config(template).workload(&invocation(args)).unwrap(), name);
        }
        let refused = config(r#","workload":"---""#).workload(&invocation(&[])).unwrap_err();
        assert_eq!(refused.code, Code::Config);
        assert_eq!(label(&"x".repeat(70)).len(), 63);
    }

    #[test]
    fn one_ipv4_address_may_be_asked_for() {
        let ask = |rest: &str, args: &[(&str, &str)]| {
            parse(&format!(r#""network":"shop"{rest}"#)).unwrap().ipv4(&invocation(args))
        };
        let wanted = Ok(Some([10, 20, 1, 7].into()));
        assert_eq!(ask(r#","runtimeConfig":{"ips":["10.20.1.7/24"]}"#, &[]), wanted);
        assert_eq!(ask(r#","args":{"cni":{"ips":["10.20.1.7"]}}"#, &[]), wanted);
        assert_eq!(ask("", &[("IP", "10.20.1.7")]), wanted);
        assert_eq!(ask("", &[]), Ok(None));
        for ips in [r#"["10.20.1.7","10.20.1.8"]"#, r#"["fd00::1"]"#, r#"["x"]"#] {
            assert!(ask(&format!(r#","runtimeConfig":{{"ips":{ips}}}"#), &[]).is_err(), "{ips}");
        }
    }

    #[test]
    fn gc_says_what_is_to_stay() {
        let config =
            parse(r#""network":"shop","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]"#);
        assert_eq!(config.unwrap().valid, Some(vec![("c".to_owned(), "eth0".to_owned())]));
        assert_eq!(parse(r#""network":"shop""#).unwrap().valid, None);
    }
}
