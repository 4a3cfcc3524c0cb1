//! `dns query|records|status`.

use sinew_control::api::{DnsAnswer, DnsQuery, DnsRecords, DnsStatus};
use sinew_control::{ApiError, Exit, paths};

use crate::args::DnsVerb;
use crate::client::{Client, PATIENCE};
use crate::output::Out;
use crate::render;

pub(super) async fn run(client: &Client, out: Out, verb: DnsVerb) -> Result<Exit, ApiError> {
    match verb {
        DnsVerb::Query { name, kind, workload } => {
            let query = DnsQuery { name, kind, workload };
            let answer: DnsAnswer = client.post(paths::DNS_QUERY, &query, PATIENCE).await?;
            out.object(&answer, || render::workload::answer(&answer, out.wide))?;
            Ok(exit(&answer))
        }
        DnsVerb::Records { network } => {
            let path = match network {
                None => paths::DNS_RECORDS.to_owned(),
                Some(network) => format!("{}?network={}", paths::DNS_RECORDS, escaped(&network)),
            };
            let answer: DnsRecords = client.get(&path).await?;
            out.list(&answer, &answer.records, || render::workload::records(&answer.records, out.wide))?;
            Ok(Exit::Ok)
        }
        DnsVerb::Status => {
            let answer: DnsStatus = client.get(paths::DNS_STATUS).await?;
            out.object(&answer, || render::workload::dns_status(&answer))?;
            Ok(Exit::Ok)
        }
    }
}

/// 0 records · 4 none · 3 nobody answered · 5 refused.
fn exit(answer: &DnsAnswer) -> Exit {
    match answer.status.as_str() {
        "NOERROR" if !answer.records.is_empty() => Exit::Ok,
        "NOERROR" | "NXDOMAIN" => Exit::Unknown,
        "REFUSED" => Exit::Denied,
        _ => Exit::Unreachable,
    }
}

/// A value inside a query string: everything but letters, digits and a few marks is escaped.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_decides_the_exit() {
        let answer = |status: &str, records| DnsAnswer {
            name: String::new(),
            status: status.to_owned(),
            records,
            source: String::new(),
            why: String::new(),
            duration_ms: 0.0,
        };
        for (status, code) in [("NOERROR", 4), ("NXDOMAIN", 4), ("SERVFAIL", 3), ("REFUSED", 5)] {
            assert_eq!(exit(&answer(status, vec![])).code(), code, "{status}");
        }
        assert_eq!(escaped("shop&x=ü"), "shop%26x%3D%C3%BC");
    }
}
