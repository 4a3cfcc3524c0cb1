//! Publishing from the workload's side: what a gateway may ask of the node, and nobody else.
//!
//! ```text
//!   g ───── n ───── x        n: web, db of network "shop", till of network "bank"
//! ```
//! g stands for a gateway: the test speaks the service port's protocol from its mesh address, byte by byte. It
//! is none by its configuration, so it refuses what is published through it, and says so.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::process::Output;
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::{ns, wait};
use sinew_types::{Label, NodeId};
use sinew_wire::ingress::{Open, PORT, Request, Status};

/// In which a connection that may be made stands, and one that may not has failed.
const PROMPT: Duration = Duration::from_secs(5);
/// The promise for what was taken back.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Requests of one node that may be said at once.
const SAYING_OF_ONE: usize = 128;
const PAGE: &str = "<h1>shop</h1>\n";

/// What there is to ask for.
struct Stage {
    node: Ipv6Addr,
    open: Open,
}

fn start(lab: &mut Lab) -> Result<()> {
    lab.star("n", &["g", "x"])?;
    // As a node is by default; the labs' own is open.
    lab.config("n").inbound = "\"established\"".into();
    lab.peer_links(Dial::Both)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "n", &[])?;
    tenant::network(lab, "bank", "10.30.0.0/16", "n", &[])
}

fn web(lab: &Lab, network: &str, name: &str) -> Result<Workload> {
    let nginx = tenant::nginx(&lab.dir().join(name), PAGE)?;
    Workload::start(lab, "n", network, name, &words(&nginx))
}

/// `sinew expose` through g; what it printed.
fn expose(lab: &Lab, workload: &str, options: &[&str]) -> Result<(Output, Value)> {
    let gateway = lab.key("g")?.node_id;
    let args = ["expose", workload, "--network", "shop", "--via", &gateway];
    let said = lab.cli("n").run_json(&[&args[..], options].concat())?;
    let value = serde_json::from_str(&said.stdout).with_context(|| said.text())?;
    Ok((said, value))
}

fn bytes<const N: usize>(hex: &str) -> Result<[u8; N]> {
    let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
    let all: Option<Vec<u8>> = (0..N).map(byte).collect();
    all.and_then(|all| all.try_into().ok()).with_context(|| format!("{hex} is no id"))
}

fn stage(lab: &Lab, exposed: &Value, workload: &str, port: u16) -> Result<Stage> {
    let publication = exposed.get("publication").context("no publication")?;
    let key = |text: &str| text.parse::<NodeId>().map(|id| *id.as_bytes());
    let open = Open {
        network: key(text(publication, "network_id"))?,
        service: bytes(text(publication, "id"))?,
        home: key(&lab.key("n")?.node_id)?,
        workload: Label::parse(workload)?,
        port,
    };
    Ok(Stage { node: lab.address("n")?.parse()?, open })
}

/// A request from the mesh address of `from`: the status, and the stream; `None` if no connection came about.
fn ask(lab: &Lab, from: &str, stage: &Stage, request: &[u8]) -> Result<Option<(Status, TcpStream)>> {
    let to = SocketAddr::new(IpAddr::V6(stage.node), PORT);
    let stream = lab.ns(from).enter(|| TcpStream::connect_timeout(&to, AT_ONCE))?;
    let Ok(mut stream) = stream else { return Ok(None) };
    stream.set_read_timeout(Some(PROMPT))?;
    stream.write_all(request)?;
    let mut status = [0];
    match stream.read_exact(&mut status) {
        Ok(()) => Ok(Some((Status::parse(status[0])?, stream))),
        Err(_) => Ok(None),
    }
}

fn connect(lab: &Lab, from: &str, stage: &Stage, open: Open) -> Result<Option<(Status, TcpStream)>> {
    ask(lab, from, stage, &Request::Connect(open).emit().context("a short request")?)
}

/// Whether g gets the page by a request for `open`.
fn gets(lab: &Lab, stage: &Stage) -> Result<bool> {
    let Some((Status::Ok, mut stream)) = connect(lab, "g", stage, stage.open.clone())? else {
        return Ok(false);
    };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page.ends_with(PAGE))
}

fn status(lab: &Lab, from: &str, stage: &Stage, open: Open) -> Result<Option<Status>> {
    Ok(connect(lab, from, stage, open)?.map(|(status, _)| status))
}

#[test]
fn a_gateway_reaches_what_is_published_through_it_and_nothing_else() {
    run_lab("publish", |lab| {
        start(lab)?;
        let _web = web(lab, "shop", "web")?;
        let _db = web(lab, "shop", "db")?;
        let _till = web(lab, "bank", "till")?;
        let (said, exposed) = expose(lab, "web", &["--port", "80", "--name", "app"])?;
        // g takes nothing in, and that is said; the statement is in force all the same.
        ensure!(said.code == Some(5), "{:?} {}", said.code, said.text());
        let publication = &exposed["publication"];
        ensure!(text(publication, "code") == "not_a_gateway", "{exposed}");
        let stage = stage(lab, &exposed, "web", 80)?;
        ensure!(gets(lab, &stage)?, "the page does not come");
        // Another node does not get as far as a word.
        ensure!(status(lab, "x", &stage, stage.open.clone())?.is_none(), "x has an answer");
        let bank = lab.cli("n").json(&["network", "show", "bank"])?;
        let bank = text(&bank, "id").parse::<NodeId>().map(|id| *id.as_bytes())?;
        let (open, till) = (stage.open.clone(), Label::parse("till")?);
        for (what, open) in [
            ("another port", Open { port: 81, ..open.clone() }),
            ("another workload", Open { workload: Label::parse("db")?, ..open.clone() }),
            ("another tenant's", Open { network: bank, workload: till.clone(), ..open.clone() }),
            ("another tenant's name", Open { workload: till, ..open.clone() }),
            ("another service", Open { service: [1; 16], ..open.clone() }),
        ] {
            let got = status(lab, "g", &stage, open)?;
            ensure!(got == Some(Status::NotPublished), "{what}: {got:?}");
        }
        let datagrams = Request::Datagrams(open).emit().context("a short request")?;
        let got = ask(lab, "g", &stage, &datagrams)?.map(|(status, _)| status);
        ensure!(got == Some(Status::NotPublished), "as datagrams: {got:?}");
        let wrong = ask(lab, "g", &stage, b"GET / HTTP/1.1\r\nhost: n\r\n\r\n")?.map(|(status, _)| status);
        ensure!(wrong == Some(Status::Malformed), "{wrong:?}");
        let listed = lab.cli("n").json(&["expose", "ls"])?;
        ensure!(listed["requests"]["not_published"] == 6, "{listed}");
        ensure!(listed["services"][0]["tx_bytes"].as_u64() > Some(PAGE.len() as u64), "{listed}");
        too_many_at_once(lab, &stage)
    });
}

/// Who is still saying what it wants has a place; whoever finds none is told so, and does not just see an end.
fn too_many_at_once(lab: &Lab, stage: &Stage) -> Result<()> {
    let to = SocketAddr::new(IpAddr::V6(stage.node), PORT);
    let connect = || (0..SAYING_OF_ONE).map(|_| TcpStream::connect_timeout(&to, PROMPT)).collect();
    let silent: std::io::Result<Vec<_>> = lab.ns("g").enter(connect)?;
    let got = status(lab, "g", stage, stage.open.clone())?;
    ensure!(got == Some(Status::Busy), "beside {} others: {got:?}", silent?.len());
    wait::until("there is room again", SOON, || gets(lab, stage).unwrap_or(false))
}

/// Whether the far end has ended a stream on which nothing is sent.
fn ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn what_is_taken_back_ends_at_once_and_a_restart_forgets_nothing() {
    run_lab("unpublish", |lab| {
        start(lab)?;
        let mut first = web(lab, "shop", "web")?;
        let (_, exposed) = expose(lab, "web", &["--port", "80", "--name", "app", "--wait", "0.1"])?;
        let stage = stage(lab, &exposed, "web", 80)?;
        ensure!(gets(lab, &stage)?, "the page does not come");
        // The daemon is killed and comes again: nobody has to say anything twice.
        lab.kill("n");
        lab.start("n")?;
        lab.wait_mesh()?;
        wait::until("the page comes after a restart", SOON, || gets(lab, &stage).unwrap_or(false))?;
        let _db = by_name_not_by_place(lab, &stage, &mut first)?;
        let _web = web(lab, "shop", "web")?;
        wait::until("the page comes from where web is now", SOON, || gets(lab, &stage).unwrap_or(false))?;
        let Some((Status::Ok, mut stream)) = connect(lab, "g", &stage, stage.open.clone())? else {
            anyhow::bail!("no stream")
        };
        let began = Instant::now();
        let gone = lab.cli("n").run_json(&["unexpose", "app", "--wait", "0.1"])?;
        // g never took it in, so it confirms nothing.
        ensure!(matches!(gone.code, Some(0 | 2)), "{}", gone.text());
        ensure!(ended(&mut stream), "the stream goes on");
        eprintln!("unexpose and the end of a stream took {} ms", began.elapsed().as_millis());
        ensure!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        ensure!(!gets(lab, &stage)?, "a new stream is granted");
        let listed = lab.cli("n").list(&["expose", "ls"], "services")?;
        ensure!(listed.is_empty(), "{listed:?}");
        Ok(())
    });
}

/// The place of a workload that ended is the next one's; what was published is not. The next one goes on.
fn by_name_not_by_place(lab: &Lab, stage: &Stage, web: &mut Workload) -> Result<Workload> {
    let place = web.addresses(lab)?;
    web.stop()?;
    wait::until("web is gone", SOON, || !gets(lab, stage).unwrap_or(true))?;
    let next = self::web(lab, "shop", "db")?;
    ensure!(
        next.addresses(lab)? == place,
        "the test is about one place: {:?}, {place:?}",
        next.addresses(lab)?
    );
    for name in ["web", "db"] {
        let open = Open { workload: Label::parse(name)?, ..stage.open.clone() };
        let got = status(lab, "g", stage, open)?;
        ensure!(got != Some(Status::Ok), "{name}: {got:?}");
    }
    Ok(next)
}

#[test]
fn datagrams_reach_a_udp_port_and_come_back_whole() {
    run_lab("publish-udp", |lab| {
        start(lab)?;
        let echo = Workload::start(lab, "n", "shop", "echo", &["sleep", "infinity"])?;
        let address = echo.addresses(lab)?.swap_remove(0);
        let socket = ns::enter(&echo.netns(lab)?, || UdpSocket::bind((address.as_str(), 5353)))??;
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
        let (_, exposed) = expose(lab, "echo", &["--port", "5353", "--mode", "udp", "--wait", "0.1"])?;
        let stage = stage(lab, &exposed, "echo", 5353)?;
        let request = Request::Datagrams(stage.open.clone()).emit().context("a short request")?;
        let Some((Status::Ok, mut stream)) = ask(lab, "g", &stage, &request)? else {
            anyhow::bail!("no datagrams")
        };
        for length in [0_u16, 1, 1200, 9000, 60_000] {
            let datagram = vec![length as u8; usize::from(length)];
            stream.write_all(&[&length.to_le_bytes()[..], &datagram].concat())?;
            let mut head = [0; 2];
            stream.read_exact(&mut head)?;
            let mut back = vec![0; usize::from(u16::from_le_bytes(head))];
            stream.read_exact(&mut back)?;
            ensure!(back == datagram, "{length} bytes came back as {}", back.len());
        }
        stream.shutdown(Shutdown::Both)?;
        let as_stream = status(lab, "g", &stage, stage.open.clone())?;
        ensure!(as_stream == Some(Status::NotPublished), "{as_stream:?}");
        Ok(())
    });
}
