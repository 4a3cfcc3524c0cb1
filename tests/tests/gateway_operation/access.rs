//! Who may come in: each way of saying so, once, through the daemon.

use std::path::Path;

use anyhow::{Result, ensure};
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process;
use sinew_tests::tenant::{self, SOON, Workload};
use sinew_tests::wait;

use super::{curl, status, web};

#[test]
fn only_who_may_comes_in_whatever_says_who_may() {
    run_lab("gwaccess", |lab| {
        let gateway = Gateway::start(lab, "")?;
        let _web = web(lab, "a", "web")?;
        let script = format!("{}/tests/gateway_operation/auth.py", env!("CARGO_MANIFEST_DIR"));
        let _auth = Workload::start(lab, "a", NETWORK, "auth", &["/usr/bin/python3", &script, "9091"])?;
        passwords(lab, &gateway)?;
        another_service(lab, &gateway)?;
        certificates(lab, &gateway)?;
        addresses(lab, &gateway)?;
        rate(lab, &gateway)
    });
}

fn expose(lab: &Lab, gateway: &Gateway, name: &str, options: &[&str]) -> Result<()> {
    gateway.expose(lab, "web", &[&["--port", "80", "--name", name], options].concat())?;
    gateway.reaches(lab, &format!("{name}.gw.test"))
}

fn passwords(lab: &Lab, gateway: &Gateway) -> Result<()> {
    let users = tenant::users(&lab.dir().join("users"), "ann", "secret")?;
    expose(lab, gateway, "basic", &["--basic", &users])?;
    for (user, wanted) in [(&[][..], "401"), (&["-u", "ann:wrong"], "401"), (&["-u", "ann:secret"], "200")] {
        let got = status(lab, gateway, "basic", user)?;
        ensure!(got == wanted, "{user:?}: {got}");
    }
    let seen = curl(lab, gateway, "basic", "/user", &["-u", "ann:secret"])?;
    ensure!(seen.stdout == "|", "the workload has seen the password: {}", seen.text());
    Ok(())
}

fn another_service(lab: &Lab, gateway: &Gateway) -> Result<()> {
    let forward = ["--forward-auth", "auth:9091/verify", "--forward-auth-copy", "X-Auth-Request-User"];
    expose(lab, gateway, "forward", &forward)?;
    // Who comes first may find the one that decides not there yet.
    wait::until("auth listens", SOON, || {
        status(lab, gateway, "forward", &[]).is_ok_and(|status| status != "503")
    })?;
    let args = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"];
    let sent = curl(lab, gateway, "forward", "/user?x=1", &args)?;
    ensure!(sent.stdout == "302 https://login.example/?back=/user?x=1", "{}", sent.text());
    let forged = ["-H", "X-Auth-Request-User: root", "-b", "session=good"];
    let seen = curl(lab, gateway, "forward", "/user", &forged)?;
    ensure!(seen.stdout == "ann|", "{}", seen.text());
    Ok(())
}

/// A certificate for a client by an authority of its own: files of the certificate and the key.
fn client_certificate(folder: &Path, name: &str) -> Result<[String; 3]> {
    let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    let (ca, ca_key, chain, key) = (file("ca"), file("ca.key"), file("pem"), file("key"));
    let openssl = |args: &[&str]| {
        let mut command = process::command("openssl");
        process::run_ok(command.args(["req", "-x509", "-nodes", "-days", "30"]).args(args), SOON)
    };
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(&[&new[..], &["-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca]].concat())?;
    let by = ["-CA", &ca, "-CAkey", &ca_key, "-subj", "/CN=client", "-keyout", &key, "-out", &chain];
    openssl(&[&new[..], &by, &["-addext", "basicConstraints=critical,CA:FALSE"]].concat())?;
    Ok([ca, chain, key])
}

fn certificates(lab: &Lab, gateway: &Gateway) -> Result<()> {
    let [ca, chain, key] = client_certificate(lab.dir(), "ours")?;
    let [_, other, other_key] = client_certificate(lab.dir(), "theirs")?;
    expose(lab, gateway, "closed", &["--client-ca", &ca])?;
    let shown: [(&[&str], &str); 3] = [
        (&["--cert", &chain, "--key", &key], "200"),
        (&["--cert", &other, "--key", &other_key], "000"),
        (&[], "000"),
    ];
    for (args, wanted) in shown {
        let got = status(lab, gateway, "closed", args)?;
        ensure!(got == wanted, "{args:?}: {got}");
    }
    Ok(())
}

fn addresses(lab: &Lab, gateway: &Gateway) -> Result<()> {
    let client = lab.underlay("client", "gw");
    let network = format!("{}.0/24", client.rsplit_once('.').map_or("", |(start, _)| start));
    for (name, options, wanted) in [
        ("allowed", vec!["--allow", &network], "200"),
        ("elsewhere", vec!["--allow", "192.0.2.0/24"], "403"),
        ("denied", vec!["--deny", &client], "403"),
        ("excepted", vec!["--allow", &network, "--deny", &client], "403"),
    ] {
        expose(lab, gateway, name, &options)?;
        let got = status(lab, gateway, name, &[])?;
        ensure!(got == wanted, "{name}: {got}");
    }
    Ok(())
}

/// Three at once, and then one a second.
fn rate(lab: &Lab, gateway: &Gateway) -> Result<()> {
    expose(lab, gateway, "slow", &["--rate", "1/3"])?;
    let args = ["-o", "/dev/null", "-w", "%{http_code} %header{retry-after}\n"];
    // One curl, so that all are asked within the second.
    let more = ["https://slow.gw.test/"; 4].map(|url| [&args[..], &[url]].concat()).concat();
    let all = curl(lab, gateway, "slow", "/", &[&more[..], &args].concat())?;
    let answers: Vec<_> = all.stdout.lines().map(str::trim_end).collect();
    ensure!(answers == ["200", "200", "200", "429 1", "429 1"], "{answers:?} {}", all.stderr);
    wait::until("the next has its turn", SOON, || {
        status(lab, gateway, "slow", &[]).is_ok_and(|got| got == "200")
    })
}
