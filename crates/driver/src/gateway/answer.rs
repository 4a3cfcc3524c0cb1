//! What a publisher is told.

use std::net::IpAddr;

use sinew_control::api::{Answer, AnswerHost, AnswerState, DnsToSet};
use sinew_control::time;
use sinew_registry::{HostOutcome, HostState, Outcome, Refusal};
use sinew_types::NodeId;

/// A name that its registrar gives to somebody else.
pub(super) const NAME_TAKEN: &str = "name_taken";
/// A name that nobody holds by what the registrar has said.
pub(super) const NAME_UNREGISTERED: &str = "name_unregistered";

/// The gateway that answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Here<'a> {
    /// Its domain.
    pub(super) domain: Option<&'a str>,
    /// Where people find it, the best first.
    pub(super) addresses: &'a [IpAddr],
    /// The port of HTTPS, if it is not the usual one.
    pub(super) https_port: Option<u16>,
    /// Why its registrar says nothing, if it has one that does not.
    pub(super) away: Option<&'a str>,
}

/// A time as people read it.
pub(super) fn date(unix: u64) -> String {
    time::rfc3339(unix.saturating_mul(1_000_000))
}

/// One without a service, for documents that are no good.
pub(super) fn refused(code: &str, text: impl Into<String>) -> Answer {
    Answer {
        service: None,
        seq: 0,
        state: AnswerState::Refused,
        hosts: Vec::new(),
        addresses: Vec::new(),
        port: None,
        code: code.to_owned(),
        text: text.into(),
    }
}

/// One that says that the documents were taken.
pub(super) fn noted() -> Answer {
    Answer { state: AnswerState::Live, ..refused("", "") }
}

/// The words of the interface for a refusal.
fn code(refusal: &Refusal) -> &'static str {
    match refusal.code() {
        "not_accepted" => "not_allowed",
        "taken" | "path_taken" | "other_mode" => NAME_TAKEN,
        "reserved" => "name_reserved",
        "bad_name" if is_short(refusal) => "name_too_short",
        "stale" | "equivocation" => "older",
        "full" => "quota",
        "no_port" | "port_out_of_range" => "no_port_free",
        other => other,
    }
}

fn is_short(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::BadName { why: sinew_registry::BadName::Short, .. })
}

/// A refusal of the whole.
pub(super) fn of_refusal(refusal: &Refusal) -> Answer {
    refused(code(refusal), refusal.text(date))
}

/// What became of a claim. `lacks` says why a host that needs a certificate has none.
pub(super) fn of_outcome(
    outcome: &Outcome,
    here: Here<'_>,
    lacks: impl Fn(&str) -> Option<String>,
) -> Answer {
    if outcome.withdrawn {
        return Answer { state: AnswerState::Withdrawn, ..refused("", "") };
    }
    let hosts: Vec<_> = outcome.hosts.iter().map(|host| of_host(host, here, &lacks)).collect();
    let any = |state| hosts.iter().any(|host| host.state == state);
    let state = match () {
        () if outcome.port.is_some() || any(AnswerState::Live) => AnswerState::Live,
        () if any(AnswerState::Pending) => AnswerState::Pending,
        () => AnswerState::Refused,
    };
    let first = hosts.iter().find(|host| host.state != AnswerState::Live);
    let (code, text) = first.map(|host| (host.code.clone(), host.text.clone())).unwrap_or_default();
    let addresses = here.addresses.iter().map(IpAddr::to_string);
    Answer {
        state,
        addresses: here.domain.map(str::to_owned).into_iter().chain(addresses).collect(),
        port: outcome.port.or(here.https_port),
        code,
        text,
        hosts,
        ..refused("", "")
    }
}

/// One host.
pub(super) fn of_host(
    outcome: &HostOutcome,
    here: Here<'_>,
    lacks: impl Fn(&str) -> Option<String>,
) -> AnswerHost {
    let host = outcome.host.clone();
    let make = |state, code: &str, text: String, dns| AnswerHost {
        host: host.clone(),
        state,
        code: code.to_owned(),
        text,
        dns,
    };
    match &outcome.state {
        HostState::Serving => match lacks(&host) {
            None => make(AnswerState::Live, "", String::new(), Vec::new()),
            Some(text) => make(AnswerState::Pending, "certificate_missing", text, Vec::new()),
        },
        HostState::Waiting { record, last } => {
            let set = |name: &str, kind: &str, value: &str| DnsToSet {
                name: name.to_owned(),
                kind: kind.to_owned(),
                value: value.to_owned(),
            };
            let mut dns = vec![set(&record.name, "TXT", &record.text)];
            dns.extend(here.domain.map(|domain| set(&host, "CNAME", domain)));
            let found = match last {
                None => "it has not been looked up yet",
                Some(sinew_registry::Finding::Unknown) => "its name servers do not answer",
                Some(_) => "it is not there",
            };
            let text = format!(
                "waits for the TXT record {}, which proves that {host} is yours: {found}",
                record.name
            );
            make(AnswerState::Pending, "proof_missing", text, dns)
        }
        HostState::Unregistered { registrar, heard } => make(
            AnswerState::Pending,
            NAME_UNREGISTERED,
            unregistered(&host, registrar, *heard, here),
            Vec::new(),
        ),
        HostState::Refused(refusal) => {
            make(AnswerState::Refused, code(refusal), refusal.text(date), Vec::new())
        }
    }
}

fn unregistered(host: &str, registrar: &NodeId, heard: Option<u64>, here: Here<'_>) -> String {
    let decides = format!("the gateway {registrar} decides on the names of this domain");
    match here.away {
        None => format!(
            "nobody holds {host}: {decides}; publish it there first (`sinew expose ... --via {registrar}`), this one \
             follows"
        ),
        Some(why) => {
            let heard =
                heard.map_or_else(|| "never heard".to_owned(), |at| format!("last heard {}", date(at)));
            format!(
                "{host} is not known here: {decides} and is away ({why}; {heard}); until it answers, no name is added"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_registry::{TxtRecord, txt_record};
    use sinew_types::{Identity, NetworkId};

    #[test]
    fn a_publisher_hears_what_to_set_and_who_stands_in_the_way() {
        let network = NetworkId::new(Identity::from_seed([1; 32]).node_id());
        let record: TxtRecord = txt_record("shop.example", &network, "gw.test");
        let host = |host: &str, state| HostOutcome { host: host.to_owned(), state };
        let taken = Refusal::Taken { host: "app.gw.test".into(), holder: network, since: 0, until: None };
        let outcome = Outcome {
            hosts: vec![
                host("shop.example", HostState::Waiting { record: record.clone(), last: None }),
                host("app.gw.test", HostState::Refused(taken)),
            ],
            port: None,
            withdrawn: false,
        };
        let addresses = ["203.0.113.7".parse().unwrap()];
        let here =
            Here { domain: Some("gw.test"), addresses: &addresses, https_port: Some(8443), away: None };
        let answer = of_outcome(&outcome, here, |_| None);
        assert_eq!((answer.state, answer.code.as_str()), (AnswerState::Pending, "proof_missing"));
        assert_eq!((answer.addresses.join(" ").as_str(), answer.port), ("gw.test 203.0.113.7", Some(8443)));
        let dns: Vec<_> =
            answer.hosts[0].dns.iter().map(|dns| (dns.kind.as_str(), dns.value.as_str())).collect();
        assert_eq!(dns, [("TXT", record.text.as_str()), ("CNAME", "gw.test")]);
        let other = &answer.hosts[1];
        assert_eq!((other.state, other.code.as_str()), (AnswerState::Refused, "name_taken"));
        assert!(
            other.text.contains(&network.to_string()) && other.text.contains("1970-01-01"),
            "{}",
            other.text
        );
        let served = Outcome { hosts: vec![host("app.gw.test", HostState::Serving)], ..outcome };
        assert_eq!(of_outcome(&served, Here::default(), |_| None).state, AnswerState::Live);
        let answer = of_outcome(&served, Here::default(), |host| Some(format!("none for {host}")));
        assert_eq!(
            (answer.code.as_str(), answer.text.as_str()),
            ("certificate_missing", "none for app.gw.test")
        );
    }

    #[test]
    fn who_wants_a_name_of_a_follower_hears_where_to_go_and_why_it_has_to_wait() {
        let registrar = Identity::from_seed([2; 32]).node_id();
        let state = HostState::Unregistered { registrar, heard: Some(0) };
        let host = HostOutcome { host: "app.gw.test".to_owned(), state };
        for (away, says) in
            [(None, "publish it there first"), (Some("it is busy"), "it is busy; last heard 1970")]
        {
            let here = Here { domain: Some("gw.test"), away, ..Here::default() };
            let said = of_host(&host, here, |_| None);
            assert_eq!((said.state, said.code.as_str()), (AnswerState::Pending, NAME_UNREGISTERED));
            assert!(said.text.contains(says) && said.text.contains(&registrar.to_string()), "{}", said.text);
        }
    }
}
