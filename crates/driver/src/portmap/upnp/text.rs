//! What is said to a UPnP router and read from it: pure, and a stranger's bytes.

use std::net::Ipv4Addr;
use std::time::Duration;

use hyper::Uri;
use roxmltree::Document;

/// The search for a router (UPnP Device Architecture 1.1, 1.3.2).
pub(in crate::portmap) const SEARCH: &[u8] = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\
    MAN: \"ssdp:discover\"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";

/// Services that pass on ports, the better ones first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Where ports are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::portmap) struct Service {
    pub(super) kind: String,
    pub(super) control: Uri,
}

/// Why a router did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::portmap) enum Failure {
    /// It does not answer, or no more.
    Silent,
    /// Somebody else has this port outside (718).
    Conflict,
    /// It passes on for ever or not at all (725).
    OnlyForEver,
    /// It will not.
    Refused,
    /// Its answer is none.
    Nonsense,
}

/// A question with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) name: &'static str,
    arguments: Vec<(&'static str, String)>,
}

impl Action {
    /// The body of the request. Arguments are numbers, addresses and words of ours.
    pub(super) fn envelope(&self, kind: &str) -> String {
        let arguments: String =
            self.arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{0} xmlns:u=\"{kind}\">{arguments}</u:{0}></s:Body></s:Envelope>",
            self.name
        )
    }
}

pub(super) const fn address() -> Action {
    Action { name: "GetExternalIPAddress", arguments: Vec::new() }
}

pub(super) fn map(client: Ipv4Addr, port: u16, outside: u16, lifetime: Duration) -> Action {
    let arguments = vec![
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", outside.to_string()),
        ("NewProtocol", "UDP".to_owned()),
        ("NewInternalPort", port.to_string()),
        ("NewInternalClient", client.to_string()),
        ("NewEnabled", "1".to_owned()),
        ("NewPortMappingDescription", "sinew".to_owned()),
        ("NewLeaseDuration", lifetime.as_secs().to_string()),
    ];
    Action { name: "AddPortMapping", arguments }
}

pub(super) fn unmap(outside: u16) -> Action {
    let arguments = vec![
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", outside.to_string()),
        ("NewProtocol", "UDP".to_owned()),
    ];
    Action { name: "DeletePortMapping", arguments }
}

/// Where the description is, by an answer to the search.
pub(super) fn location(answer: &[u8]) -> Option<Uri> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.split("\r\n");
    lines.next().filter(|status| status.starts_with("HTTP/1.1 200"))?;
    let value = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim())
    });
    value?.parse().ok()
}

/// The best service of a description; its address is on the same server as the description, whatever that says.
pub(super) fn service(description: &str, location: &Uri) -> Option<Service> {
    let document = Document::parse(description).ok()?;
    let child = |node: roxmltree::Node<'_, '_>, name: &str| -> Option<String> {
        let found = node.children().find(|child| child.tag_name().name() == name)?;
        Some(found.text()?.trim().to_owned())
    };
    let services = || document.descendants().filter(|node| node.tag_name().name() == "service");
    SERVICES.iter().find_map(|kind| {
        let fits = |node: &roxmltree::Node<'_, '_>| child(*node, "serviceType").as_deref() == Some(kind);
        let control = child(services().find(fits)?, "controlURL")?;
        let given: Uri = control.parse().ok()?;
        let path = given.path_and_query().filter(|path| path.as_str().starts_with('/'))?.clone();
        let mut parts = location.clone().into_parts();
        parts.path_and_query = Some(path);
        Some(Service { kind: (*kind).to_owned(), control: Uri::from_parts(parts).ok()? })
    })
}

fn element(page: &str, name: &str) -> Option<String> {
    let document = Document::parse(page).ok()?;
    let found = document.descendants().find(|node| node.tag_name().name() == name)?;
    Some(found.text()?.trim().to_owned())
}

pub(super) fn outside_address(page: &str) -> Option<Ipv4Addr> {
    element(page, "NewExternalIPAddress")?.parse().ok()
}

pub(super) fn failure(page: &str) -> Failure {
    match element(page, "errorCode").as_deref() {
        Some("718") => Failure::Conflict,
        Some("725") => Failure::OnlyForEver,
        Some(_) => Failure::Refused,
        None => Failure::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>
 <service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3f</controlURL></service>
 </serviceList><deviceList><device><serviceList>
 <service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType><controlURL>/ppp</controlURL></service>
 <service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
  <controlURL>CONTROL</controlURL></service>
</serviceList></device></deviceList></device></root>"#;

    #[test]
    fn the_answer_to_a_search_names_a_place() {
        let place = |answer: &str| location(answer.as_bytes()).map(|uri| uri.to_string());
        let good = "HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://10.0.0.1:5000/desc.xml\r\n\r\n";
        assert_eq!(place(good).as_deref(), Some("http://10.0.0.1:5000/desc.xml"));
        for bad in
            ["", "NOTIFY * HTTP/1.1\r\nLocation: http://10.0.0.1/\r\n", "HTTP/1.1 200 OK\r\n\r\n", "\u{0}"]
        {
            assert_eq!(place(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_best_service_is_taken_and_only_from_the_router_itself() {
        let at: Uri = "http://10.0.0.1:5000/desc.xml".parse().unwrap();
        for (control, expected) in [
            ("/ctl/IPConn", Some("http://10.0.0.1:5000/ctl/IPConn")),
            ("http://10.0.0.1:5000/ctl", Some("http://10.0.0.1:5000/ctl")),
            // Another server's: the path is asked of the router all the same.
            ("http://192.0.2.1:80/ctl", Some("http://10.0.0.1:5000/ctl")),
        ] {
            let found = service(&DESCRIPTION.replace("CONTROL", control), &at).unwrap();
            assert_eq!(found.kind, SERVICES[1], "{control}");
            assert_eq!(Some(found.control.to_string().as_str()), expected, "{control}");
        }
        for bad in ["", "<root>", "<root/>", "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>"] {
            assert_eq!(service(bad, &at), None, "{bad:?}");
        }
    }

    #[test]
    fn answers_and_failures_are_told_apart() {
        let address = "<e><b><NewExternalIPAddress>55.1.2.3</NewExternalIPAddress></b></e>";
        assert_eq!(outside_address(address), Some(Ipv4Addr::new(55, 1, 2, 3)));
        assert_eq!(outside_address("<NewExternalIPAddress>::1</NewExternalIPAddress>"), None);
        let fault = |code: &str| failure(&format!("<s><detail><errorCode>{code}</errorCode></detail></s>"));
        assert_eq!(fault("718"), Failure::Conflict);
        assert_eq!(fault("725"), Failure::OnlyForEver);
        assert_eq!(fault("606"), Failure::Refused);
        assert_eq!(failure("no XML"), Failure::Nonsense);
    }

    #[test]
    fn a_mapping_says_all_that_a_router_wants_to_know() {
        let body =
            map(Ipv4Addr::new(10, 0, 0, 7), 7463, 7464, Duration::from_secs(3600)).envelope(SERVICES[1]);
        for part in [
            "<u:AddPortMapping xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">",
            "<NewExternalPort>7464</NewExternalPort>",
            "<NewInternalPort>7463</NewInternalPort>",
            "<NewInternalClient>10.0.0.7</NewInternalClient>",
            "<NewLeaseDuration>3600</NewLeaseDuration>",
        ] {
            assert!(body.contains(part), "{part}: {body}");
        }
        assert!(Document::parse(&body).is_ok());
    }
}
