//! What a container has of the network: our part, behind that of plugins before us.
//!
//! Earlier plugins' entries stay as they came, unknown keys included; ours are appended. The shape
//! of an address changed between versions of the specification: the old ones say its family.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};
use sinew_control::api::AttachAnswer;

use crate::error::{CniError, Code};

/// Podman's CNI library wants a hardware address of each interface. A TUN has none.
const NO_MAC: &str = "00:00:00:00:00:00";

/// A result, ours or that of plugins before us.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    whole: Map<String, Value>,
}

impl Outcome {
    /// Reads `prevResult`.
    pub(crate) fn read(value: &Value) -> Result<Self, CniError> {
        let wrong =
            |what: &str| CniError::new(Code::Decode, format!("prevResult is not understood: {what}"), "");
        let whole = value.as_object().ok_or_else(|| wrong("no object"))?.clone();
        for key in ["interfaces", "ips", "routes"] {
            if whole.get(key).is_some_and(|list| !list.is_null() && !list.is_array()) {
                return Err(wrong(&format!("`{key}` is no list")));
            }
        }
        if whole.get("dns").is_some_and(|dns| !dns.is_null() && !dns.is_object()) {
            return Err(wrong("`dns` is no object"));
        }
        Ok(Self { whole })
    }

    /// Whether the container has an interface of this name already.
    pub(crate) fn has_interface(&self, name: &str) -> bool {
        self.entries("interfaces")
            .iter()
            .any(|one| text(one, "name") == name && !text(one, "sandbox").is_empty())
    }

    /// The addresses, without prefix length, of an interface in the container.
    pub(crate) fn addresses(&self, interface: &str) -> Vec<IpAddr> {
        let interfaces = self.entries("interfaces");
        let is_on = |ip: &&Value| {
            let index =
                ip.get("interface").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| interfaces.get(index)).is_some_and(|one| text(one, "name") == interface)
        };
        let ips = self.entries("ips").iter().filter(is_on);
        ips.filter_map(|ip| text(ip, "address").split('/').next()?.parse().ok()).collect()
    }

    /// Adds what the daemon made.
    pub(crate) fn add(&mut self, answer: &AttachAnswer, sandbox: &Path, version: &str) {
        for interface in &answer.interfaces {
            let mac = interface.mac.as_deref().unwrap_or(NO_MAC);
            let mut entry = json!({"name": interface.interface, "mac": mac, "sandbox": sandbox});
            if version == "1.1.0" {
                entry["mtu"] = interface.mtu.into();
            }
            let interfaces = self.list("interfaces");
            interfaces.push(entry);
            let index = interfaces.len() - 1;
            for address in &interface.addresses {
                let mut entry = json!({"address": address, "interface": index});
                if version == "0.4.0" {
                    entry["version"] = if address.contains(':') { "6" } else { "4" }.into();
                }
                self.list("ips").push(entry);
            }
            for route in &interface.routes {
                self.list("routes").push(json!({"dst": route}));
            }
        }
        self.add_dns(answer);
    }

    /// Our name servers go first: they ask others for what is not theirs, others would not ask them.
    fn add_dns(&mut self, answer: &AttachAnswer) {
        let dns = self.whole.entry("dns").or_insert_with(|| json!({}));
        if dns.is_null() {
            *dns = json!({});
        }
        let resolvers: Vec<Value> =
            answer.resolvers.iter().map(|address| address.to_string().into()).collect();
        let search: Vec<Value> = answer.search.iter().map(|domain| domain.as_str().into()).collect();
        for (key, ours) in [("nameservers", resolvers), ("search", search)] {
            let theirs = dns.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            let theirs = theirs.into_iter().filter(|one| !ours.contains(one)).collect::<Vec<_>>();
            let all = [ours, theirs].concat();
            if !all.is_empty() {
                dns[key] = all.into();
            }
        }
    }

    /// As it goes to stdout.
    pub(crate) fn json(mut self, version: &str) -> String {
        self.whole.insert("cniVersion".to_owned(), version.into());
        let text = serde_json::to_string(&self.whole).expect("JSON with string keys");
        text + "\n"
    }

    fn entries(&self, key: &str) -> &[Value] {
        self.whole.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn list(&mut self, key: &str) -> &mut Vec<Value> {
        let value = self.whole.entry(key).or_insert_with(|| json!([]));
        if !value.is_array() {
            *value = json!([]);
        }
        match value {
            Value::Array(list) => list,
            _ => unreachable!("it was made a list just above"),
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_control::api::AttachedInterface;

    fn answer() -> AttachAnswer {
        AttachAnswer {
            id: "w1".to_owned(),
            name: "web".to_owned(),
            interfaces: vec![AttachedInterface {
                interface: "eth0".to_owned(),
                network: "shop".to_owned(),
                network_id: "n".to_owned(),
                addresses: vec!["10.20.1.2/32".to_owned(), "fd00::2/128".to_owned()],
                routes: vec!["10.20.0.0/16".to_owned()],
                mtu: 1380,
                mac: None,
            }],
            resolvers: vec!["10.20.1.1".parse().unwrap()],
            search: vec!["shop.sinew.internal".to_owned()],
        }
    }

    fn whole(outcome: Outcome, version: &str) -> Value {
        serde_json::from_str(&outcome.json(version)).unwrap()
    }

    #[test]
    fn a_result_has_the_shape_of_its_version() {
        let mut outcome = Outcome::default();
        outcome.add(&answer(), Path::new("/run/netns/x"), "1.0.0");
        let expected = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "mac": "00:00:00:00:00:00", "sandbox": "/run/netns/x"}],
            "ips": [{"address": "10.20.1.2/32", "interface": 0}, {"address": "fd00::2/128", "interface": 0}],
            "routes": [{"dst": "10.20.0.0/16"}],
            "dns": {"nameservers": ["10.20.1.1"], "search": ["shop.sinew.internal"]},
        });
        assert_eq!(whole(outcome, "1.0.0"), expected);
        let of = |version: &str| {
            let mut outcome = Outcome::default();
            outcome.add(&answer(), Path::new("/x"), version);
            whole(outcome, version)
        };
        assert_eq!(
            (&of("0.4.0")["ips"][0]["version"], &of("0.4.0")["ips"][1]["version"]),
            (&"4".into(), &"6".into())
        );
        assert_eq!(of("1.1.0")["interfaces"][0]["mtu"], 1380);
    }

    #[test]
    fn what_plugins_before_us_made_stays_and_ours_comes_behind() {
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "cni0", "mac": "aa:bb:cc:dd:ee:ff"},
                           {"name": "eth0", "mac": "aa:bb:cc:dd:ee:00", "sandbox": "/x", "extra": 1}],
            "ips": [{"address": "192.0.2.5/24", "gateway": "192.0.2.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["192.0.2.53"], "options": ["ndots:2"]},
        });
        let mut outcome = Outcome::read(&previous).unwrap();
        assert!(outcome.has_interface("eth0") && !outcome.has_interface("cni0"), "cni0 is outside");
        let mut ours = answer();
        ours.interfaces[0].interface = "sinew0".to_owned();
        outcome.add(&ours, Path::new("/x"), "1.0.0");
        assert_eq!(
            outcome.addresses("sinew0"),
            ["10.20.1.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]
        );
        assert_eq!(outcome.addresses("eth0"), ["192.0.2.5".parse::<IpAddr>().unwrap()]);
        let result = whole(outcome, "1.0.0");
        assert_eq!(result["interfaces"][1], previous["interfaces"][1]);
        assert_eq!(result["ips"][1], json!({"address": "10.20.1.2/32", "interface": 2}));
        assert_eq!(result["routes"].as_array().unwrap().len(), 2);
        assert_eq!(
            result["dns"],
            json!({"nameservers": ["10.20.1.1", "192.0.2.53"], "options": ["ndots:2"],
                   "search": ["shop.sinew.internal"]})
        );
    }

    #[test]
    fn a_previous_result_of_another_shape_is_refused() {
        for wrong in [json!([]), json!({"ips": {}}), json!({"interfaces": "x"}), json!({"dns": []})] {
            assert_eq!(Outcome::read(&wrong).unwrap_err().code, Code::Decode, "{wrong}");
        }
        let mut empty = Outcome::read(&json!({"ips": null, "dns": null})).unwrap();
        empty.add(&answer(), Path::new("/x"), "1.0.0");
        assert_eq!(empty.addresses("eth0").len(), 2);
    }
}
