//! How what is published comes to its end: its author is revoked, its time runs out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sinew_platform::keyfile;
use sinew_tests::cli::text;
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::tenant::{self, SOON};
use sinew_tests::wait;
use sinew_types::{Domain, Identity, NodeId};
use sinew_wire::document::{Body, Document, kind};
use sinew_wire::ingress::{PORT, Request, Status};

use super::{curl, page, served, web};

/// The promise for a member that was revoked, where the news arrives.
const CUT: Duration = Duration::from_secs(5);
/// What a statement is good for here; no more than a curl or two.
const BRIEF: u64 = 8;

#[test]
fn what_a_revoked_member_publishes_is_served_no_longer() {
    run_lab("gwrevoked", |lab| {
        lab.line(&["client", "gw", "a", "b"])?;
        lab.peer("b", "a")?;
        let gateway = Gateway::run(lab, "")?;
        tenant::join(lab, NETWORK, "a", "b")?;
        let _servers = [web(lab, "a", "web")?, web(lab, "b", "other")?];
        gateway.expose(lab, "web", &["--port", "80", "--name", "app"])?;
        let id = lab.key("gw")?.node_id;
        lab.cli("b").json(&["expose", "other", "--port", "80", "--via", &id, "--name", "side"])?;
        for (name, wanted) in [("app", "web\n"), ("side", "other\n")] {
            wait::until(&format!("{name} is served"), SOON, || {
                page(lab, &gateway, name).is_ok_and(|got| got == wanted)
            })?;
        }
        let member = lab.key("b")?.node_id;
        lab.cli("a").json(&["network", "revoke", NETWORK, &member])?;
        let revoked = Instant::now();
        wait::until("nothing of b's comes any more", CUT, || {
            page(lab, &gateway, "side").is_ok_and(|page| page.is_empty() || !page.contains("other"))
        })?;
        eprintln!("revoked, and cut off after {} ms", revoked.elapsed().as_millis());
        wait::until("the gateway has withdrawn it", CUT, || {
            served(lab).is_ok_and(|all| all == ["app.gw.test"])
        })?;
        eprintln!("withdrawn after {} ms", revoked.elapsed().as_millis());
        ensure!(curl(lab, &gateway, "side", "/", &[])?.code == Some(35), "the name is still answered");
        ensure!(page(lab, &gateway, "app")? == "web\n", "what others publish is gone, too");
        Ok(())
    });
}

/// Seconds since 1970.
fn unix() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// Documents as `sinew network documents export` writes them.
fn exported(lab: &Lab) -> Result<Vec<Vec<u8>>> {
    let all = lab.cli("a").list(&["network", "documents", "export", NETWORK], "documents")?;
    let byte = |text: &str, at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes = |one: &Value| {
        let text = one.as_str()?;
        (0..text.len() / 2).map(|at| byte(text, at)).collect::<Option<Vec<_>>>()
    };
    all.iter().map(bytes).collect::<Option<Vec<_>>>().context("documents are hexadecimal")
}

/// What a publishes, said again by the network's owner, under another name and for a moment only.
fn brief(lab: &Lab, documents: &[Vec<u8>]) -> Result<Vec<u8>> {
    let seed = keyfile::load(&lab.dir().join(format!("{NETWORK}.owner.key")))?;
    let owner = Identity::from_seed(*seed);
    let all = documents.iter().filter_map(|bytes| Document::parse(bytes).ok());
    let mut document =
        all.into_iter().find(|one| one.kind == kind::PUBLISH).context("nothing is published")?;
    let Some(Body::Publish(mut publish)) = Body::parse(kind::PUBLISH, &document.body)? else {
        anyhow::bail!("a PUBLISH says what")
    };
    publish.hosts = vec!["brief".to_owned()];
    document.subject[31] ^= 1;
    (document.author, document.grant) = (*owner.node_id().as_bytes(), [0; 32]);
    (document.issued, document.expires) = (unix()?, unix()? + BRIEF);
    document.body = Body::Publish(publish).emit();
    document.signature = owner.sign(Domain::DOCUMENT, &document.signed_bytes());
    let mut bytes = Vec::new();
    document.emit(&mut bytes);
    Ok(bytes)
}

/// Brings documents to the gateway's service port, as a node does.
fn bring(lab: &Lab, documents: Vec<Vec<u8>>) -> Result<Value> {
    let to: NodeId = lab.key("gw")?.node_id.parse()?;
    let to = SocketAddr::new(to.address().to_ipv6().into(), PORT);
    let mut stream = lab.ns("a").enter(|| TcpStream::connect_timeout(&to, SOON))??;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&Request::Publish(documents).emit().context("too many documents")?)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.first() == Some(&(Status::Ok as u8)) && answer.len() > 5, "{answer:?}");
    Ok(serde_json::from_slice(&answer[5..])?)
}

#[test]
fn a_statement_that_runs_out_is_served_no_longer() {
    run_lab("gwexpiry", |lab| {
        let gateway = Gateway::start(lab, "")?;
        let _web = web(lab, "a", "web")?;
        gateway.expose(lab, "web", &["--port", "80", "--name", "app"])?;
        let mut documents = exported(lab)?;
        let brief = brief(lab, &documents)?;
        let expires = Document::parse(&brief)?.expires;
        // a has to know it, or its own node would grant nothing; then the gateway.
        let hex: String = brief.iter().map(|byte| format!("{byte:02x}")).collect();
        let network = lab.cli("a").json(&["network", "documents", "export", NETWORK])?["network"].clone();
        let file = lab.dir().join("brief.json");
        let import = json!({ "schema_version": 1, "network": network, "name": NETWORK, "documents": [hex] });
        std::fs::write(&file, import.to_string())?;
        lab.cli("a").json(&["network", "documents", "import", NETWORK, &file.display().to_string()])?;
        documents.push(brief);
        let answer = bring(lab, documents)?;
        ensure!(text(&answer, "state") == "live", "{answer}");
        ensure!(
            page(lab, &gateway, "brief")? == "web\n" && unix()? < expires,
            "it is not served while it is good"
        );
        wait::until("it has run out", Duration::from_secs(BRIEF) + SOON, || {
            served(lab).is_ok_and(|all| all == ["app.gw.test"])
        })?;
        let late = unix()?.saturating_sub(expires);
        eprintln!("withdrawn {late} s after its end");
        ensure!(unix()? >= expires && late <= 2, "withdrawn {late} s after its end");
        ensure!(curl(lab, &gateway, "brief", "/", &[])?.code == Some(35), "the name is still answered");
        let kept = curl(lab, &gateway, "app", "/", &[])?;
        ensure!(kept.stdout == "web\n", "what is good is gone, too: {:?} {}", kept.code, kept.text());
        Ok(())
    });
}
